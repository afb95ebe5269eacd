"""What a service says to people: one event a line on the error stream, with fields; JSON where no terminal looks."""

import io
import logging
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def service_log(**fields: object) -> Any:
    """A logger whose lines all carry `fields`; what others log by the standard library goes the same way.

    Lines for systemd's journal (JOURNAL_STREAM is set) begin with their priority, as sd-daemon(3) has it.
    """
    on_terminal = sys.stderr.isatty()
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
    ]
    if on_terminal:
        processors += [structlog.processors.TimeStamper("%H:%M:%S", utc=False), structlog.dev.ConsoleRenderer()]
    else:
        processors += [structlog.processors.TimeStamper("iso"), _renamed, structlog.processors.JSONRenderer()]
        if "JOURNAL_STREAM" in os.environ:
            processors += [_with_priority]
    structlog.configure(processors, logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Careful(sys.stderr))))
    log = structlog.get_logger().bind(**fields)
    logging.basicConfig(handlers=[_Handing(log)], level=logging.WARNING, force=True)
    return log


def _renamed(_logger: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
    """With what was said first."""
    return {"message": event.pop("event", ""), "level": event.pop("level", level), **event}


def _with_priority(_logger: Any, level: str, line: str) -> str:
    return f"<{_PRIORITY.get(level, 6)}>{line}"


class _Careful(io.TextIOBase):
    """A stream that may be full or gone: a line does not end because nobody takes what it says."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class _Handing(logging.Handler):
    """Hands on what is logged by the standard library."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower() if record.levelname.lower() in _PRIORITY else "warning"
        getattr(self._log, level)(record.getMessage(), logger=record.name, exc_info=record.exc_info)
