"""What may come of reading a file from anywhere: it is used, or refused in one line that names it. Nothing else."""

import re
import resource
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from edge.core.errors import FoilsightError

MEMORY_BYTES = 256 << 20
"""What reading a file of a few kilobytes may take beyond what the process has."""
CPU_S = 5.0
MESSAGE_CHARACTERS = 1500
"""Of which 1024 may be a path that the file itself names."""


class Hang(BaseException):
    """A file took longer than CPU_S. No Exception, so that no reader takes it for damage."""


class BadRefusal(AssertionError):
    """A refusal that helps nobody: of several lines, endless, or silent on the file."""


def verdict(use: Callable[[Path], None], path: Path, data: bytes) -> str | None:
    """Use `data` as the file at `path`: None where that went well, what it was refused with otherwise.

    Raises BadRefusal, Hang, MemoryError, and whatever else `use` lets out.
    """
    path.write_bytes(data)
    try:
        with _bounded_time(), _bounded_memory():
            use(path)
    except FoilsightError as error:
        return _checked(error, path)
    return None


def _checked(error: FoilsightError, path: Path) -> str:
    message = str(error)
    if not message.isprintable() or len(message) > MESSAGE_CHARACTERS:
        raise BadRefusal(f"not one readable line: {message[:2000]!r}") from error
    if not message.startswith("/"):  # the path of the file, or of one that it names
        raise BadRefusal(f"does not say which file: {message!r}") from error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            raise cause
        cause = cause.__cause__ or cause.__context__
    return message.replace(str(path.parent), "")


@contextmanager
def _bounded_time() -> Iterator[None]:
    previous = signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang(f"more than {CPU_S} s of CPU time for one file")


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """No allocation beyond MEMORY_BYTES, touched or not; on Linux only, elsewhere nobody says what a process has."""
    size = Path("/proc/self/statm")
    if not size.exists():
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(size.read_bytes().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@dataclass
class Tally:
    """What became of many cases. `failures`: one file for each place where something else than a refusal came out."""

    cases: int = 0
    accepted: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    failures: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def count(self, use: Callable[[Path], None], path: Path, data: bytes) -> None:
        """Judge one case and remember."""
        self.cases += 1
        try:
            refused = verdict(use, path, data)
        except (Exception, Hang) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            here = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {_kind_of(str(error))[:300]}"
            times, first = self.failures.get(here, (0, data))
            self.failures[here] = (times + 1, min(first, data, key=len))
            return
        if refused is None:
            self.accepted += 1
        else:
            self.refusals[_kind_of(refused)] += 1


def _kind_of(message: str) -> str:
    """A message without its numbers, names and quotations."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]|\([^()]*\)|0x[0-9a-f]+|-?\d[\d.e+]*", "…", message)
