"""What a running line counts, for Prometheus, in its text format 0.0.4, on this machine only."""

import bisect
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np

from edge.core.errors import ConfigError
from edge.core.types import Alarm, Coverage, Defect, Frame, Status, Surface
from edge.pipeline.ledger import END, START
from edge.service.health import STATES, Health, Sight

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METRICS = {
    "foilsight_health": ("gauge", "1 for the state that the line is in."),
    "foilsight_frames_total": ("counter", "Exposures taken from the ring whose light is sure."),
    "foilsight_frames_lost_total": ("counter", "Exposures that were not used, by cause."),
    "foilsight_camera_restarts_total": ("counter", "Camera processes that had to be replaced."),
    "foilsight_queue_depth": ("gauge", "What waits: exposures on the ring, strips in the stages, events for the disk."),
    "foilsight_stage_seconds": ("histogram", "Time that a strip takes in a stage."),
    "foilsight_web_mm_total": ("counter", "Web that frames have reached since the start."),
    "foilsight_web_speed_mm_per_s": ("gauge", "Speed of the web by its encoder."),
    "foilsight_coverage_mm_total": ("counter", "Web by what became of it; edge: the lead-in and lead-out."),
    "foilsight_lamp_level": ("gauge", "Mean grey of a light's exposures, white is 1; a mean over some 30 of them."),
    "foilsight_checksum_level": ("gauge", "Median photometric residual of the last strip."),
    "foilsight_defects_total": ("counter", "Defects closed, by class."),
    "foilsight_alarms_total": ("counter", "Alarms told, by kind."),
    "foilsight_events_total": ("counter", "Events told, by topic."),
    "foilsight_events_lost_total": ("counter", "Events that could be written nowhere."),
    "foilsight_resident_bytes": ("gauge", "Memory of the inspecting process."),
    "foilsight_open_files": ("gauge", "File descriptors of the inspecting process."),
}
"""Every metric there is: its type, and what it is."""
CAUSES = ("lost", "overwritten", "incomplete", "no_position", "dark", "other_light", "doubtful")
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
Labels = tuple[tuple[str, str], ...]
Samples = Iterator[tuple[str, Labels, float]]
_EVERY, _PART = 16, 1 / 30
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Histogram:
    """Times by bucket, in memory that does not grow."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def samples(self, name: str, labels: Labels) -> Samples:
        """As Prometheus adds them up."""
        upto = 0
        for bound, count in zip([*map(str, BOUNDS_S), "+Inf"], self._counts, strict=True):
            upto += count
            yield f"{name}_bucket", (*labels, ("le", bound)), upto
        yield f"{name}_sum", labels, self._sum_s
        yield f"{name}_count", labels, upto


class Metrics:
    """Takes what passes through a line, from any of its threads; `text` is what Prometheus is given.

    `classes` by index, 0 is background; `white`: the grey of a saturated pixel.
    """

    def __init__(self, classes: Sequence[str], lights: int, white: float) -> None:
        self._white = white
        self._stages = {stage: Histogram() for stage in ("surface", "segmentation", "defects")}
        self._defects = Counter(dict.fromkeys(classes[1:], 0))
        self._covered_mm = dict.fromkeys(("inspected", "degraded", "uninspected", "edge"), 0.0)
        self._events, self._alarms = Counter[str](), Counter[str]()
        self._lamps: list[float | None] = [None] * lights
        self._checksum: float | None = None
        self._looks: tuple[Sight, float, float] | None = None
        self.causes: Mapping[str, int] = {}
        self.queues: Mapping[str, int] = {}
        self.lost_events = 0

    def took(self, stage: str, seconds: float) -> None:
        """A strip has passed a stage."""
        self._stages[stage].add(seconds)

    def add_frame(self, frame: Frame) -> None:
        """A frame was taken."""
        level = float(frame.pixels[::_EVERY, ::_EVERY].mean()) / self._white
        before = self._lamps[frame.light]
        self._lamps[frame.light] = level if before is None else before + _PART * (level - before)

    def add_surface(self, surface: Surface) -> None:
        """A strip was solved."""
        residual = np.abs(surface.residual[_EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY])
        residual = residual[np.isfinite(residual)]
        if residual.size:
            self._checksum = float(np.median(residual))

    def add_event(self, body: Defect | Coverage | Alarm | Status) -> None:
        """Something was told."""
        self._events[type(body).__name__.lower()] += 1
        if isinstance(body, Alarm):
            self._alarms[body.kind] += 1
        elif isinstance(body, Coverage):
            state = "edge" if body.why in (START, END) else body.state
            self._covered_mm[state] += body.to_mm - body.from_mm
        elif isinstance(body, Defect) and body.phase == "closed" and body.merged_into is None:
            self._defects[body.label] += 1

    def look(self, sight: Sight, web_mm: float) -> None:
        """The line at this moment."""
        before, speed = self._looks, 0.0
        if before is not None and sight.now_s > before[0].now_s:
            speed = (web_mm - before[1]) / (sight.now_s - before[0].now_s)
        self._looks = sight, web_mm, speed

    def text(self, health: Health) -> str:
        """All metrics."""
        by_name: dict[str, list[str]] = {name: [] for name in METRICS}
        for name, labels, value in self._samples(health):
            family = name if name in METRICS else name.rpartition("_")[0]
            by_name[family].append(f"{name}{_braced(labels)} {value:.10g}")
        lines: list[str] = []
        for name, samples in by_name.items():
            kind, meaning = METRICS[name]
            if samples:
                lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *samples]
        return "\n".join(lines) + "\n"

    def _samples(self, health: Health) -> Samples:
        for state in STATES:
            yield "foilsight_health", (("state", state),), state == health.state
        if self._looks is not None:
            sight, web_mm, speed = self._looks
            yield "foilsight_frames_total", (), sight.frames
            yield "foilsight_camera_restarts_total", (), sight.restarts
            yield "foilsight_web_mm_total", (), web_mm
            yield "foilsight_web_speed_mm_per_s", (), speed
        yield from _labelled("foilsight_frames_lost_total", "cause", self.causes)
        yield from _labelled("foilsight_queue_depth", "queue", self.queues)
        for stage, histogram in self._stages.items():
            yield from histogram.samples("foilsight_stage_seconds", (("stage", stage),))
        yield from _labelled("foilsight_coverage_mm_total", "state", self._covered_mm)
        levels = {str(light): level for light, level in enumerate(self._lamps) if level is not None}
        yield from _labelled("foilsight_lamp_level", "light", levels)
        if self._checksum is not None:
            yield "foilsight_checksum_level", (), self._checksum
        yield from _labelled("foilsight_defects_total", "class", self._defects)
        yield from _labelled("foilsight_alarms_total", "kind", self._alarms)
        yield from _labelled("foilsight_events_total", "topic", self._events)
        yield "foilsight_events_lost_total", (), self.lost_events
        yield "foilsight_resident_bytes", (), resident_bytes()
        yield "foilsight_open_files", (), sum(1 for _ in Path("/proc/self/fd").iterdir())


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def _labelled(name: str, label: str, values: Mapping[str, float]) -> Samples:
    for key, value in list(values.items()):
        yield name, ((label, key),), value


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = ((key, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, value in labels)
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped) + "}"


class MetricsServer:
    """Answers GET /metrics at 127.0.0.1:`port` with `text()`, one request at a time, from a thread of its own.

    `port` 0 takes any that is free; `port` is then which. Raises ConfigError where the port is in use.
    """

    def __init__(self, port: int, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 2.0

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != "/metrics":
                    self.send_error(404)
                    return
                body = text().encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None: ...

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise ConfigError(
                f"service.metrics_port: 127.0.0.1:{port} cannot be served ({error.strerror}): stop what uses the "
                "port, set another one, or 0 for none"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(HTTPServer):
    request_queue_size = 8

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asks and leaves is nobody's trouble."""
