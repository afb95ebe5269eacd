"""What a running line counts, for Prometheus, on this machine only."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.core.errors import ConfigError
from edge.core.types import Alarm, Coverage, Defect, Frame, Status, Surface
from edge.pipeline.ledger import END, START
from edge.service.health import STATES, Health, Sight

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
    "foilsight_shadow_strips_total": ("counter", "Strips that a shadow model was compared on, or that it left out."),
    "foilsight_shadow_objects_total": ("counter", "Objects found by both models, or by one of them alone."),
    "foilsight_resident_bytes": ("gauge", "Memory of the inspecting process."),
    "foilsight_open_files": ("gauge", "File descriptors of the inspecting process."),
}
"""Every metric there is: its type, and what it is."""
CAUSES = ("lost", "overwritten", "incomplete", "no_position", "dark", "other_light", "doubtful")
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_EVERY, _PART = 16, 1 / 30
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_Kind = TypeVar("_Kind", Counter, Gauge, Histogram)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which nobody asks for


class Metrics(Collector):
    """Takes what passes through a line, from any of its threads; `text` is what Prometheus is given.

    `classes` by index, 0 is background; `white`: the grey of a saturated pixel. `causes` of losses, `queues`,
    `lost_events` and what a shadow model differs in are counted elsewhere, and shown as they stand.
    """

    def __init__(self, classes: Sequence[str], lights: int, white: float) -> None:
        self._white = white
        self._registry = CollectorRegistry()
        self._health = self._shown(Gauge, "foilsight_health", "state")
        self._stage_s = self._shown(Histogram, "foilsight_stage_seconds", "stage", buckets=BOUNDS_S)
        self._covered_mm = self._shown(Counter, "foilsight_coverage_mm_total", "state")
        self._lamp_level = self._shown(Gauge, "foilsight_lamp_level", "light")
        self._checksum = self._shown(Gauge, "foilsight_checksum_level")
        self._defects = self._shown(Counter, "foilsight_defects_total", "class")
        self._alarms = self._shown(Counter, "foilsight_alarms_total", "kind")
        self._events = self._shown(Counter, "foilsight_events_total", "topic")
        self._shown(Gauge, "foilsight_resident_bytes").set_function(resident_bytes)
        self._shown(Gauge, "foilsight_open_files").set_function(open_files)
        self._registry.register(self)
        self._checksum.set(np.nan)
        for metric, values in (
            (self._stage_s, ("surface", "segmentation", "defects")),
            (self._covered_mm, ("inspected", "degraded", "uninspected", "edge")),
            (self._defects, classes[1:]),
        ):
            for value in values:
                metric.labels(value)
        self._lamps: list[float | None] = [None] * lights
        self._looks: tuple[Sight, float, float] | None = None
        self.causes: Mapping[str, int] = {}
        self.queues: Mapping[str, int] = {}
        self.shadow_strips: Mapping[str, int] = {}
        self.shadow_objects: Mapping[str, int] = {}
        self.lost_events = 0

    def took(self, stage: str, seconds: float) -> None:
        """A strip has passed a stage."""
        self._stage_s.labels(stage).observe(seconds)

    def add_frame(self, frame: Frame) -> None:
        """A frame was taken."""
        level = float(frame.pixels[::_EVERY, ::_EVERY].mean()) / self._white
        before = self._lamps[frame.light]
        level = level if before is None else before + _PART * (level - before)
        self._lamps[frame.light] = level
        self._lamp_level.labels(frame.light).set(level)

    def add_surface(self, surface: Surface) -> None:
        """A strip was solved."""
        residual = np.abs(surface.residual[_EVERY // 2 :: _EVERY, _EVERY // 2 :: _EVERY])
        residual = residual[np.isfinite(residual)]
        if residual.size:
            self._checksum.set(np.median(residual))

    def add_event(self, body: Defect | Coverage | Alarm | Status) -> None:
        """Something was told."""
        self._events.labels(type(body).__name__.lower()).inc()
        if isinstance(body, Alarm):
            self._alarms.labels(body.kind).inc()
        elif isinstance(body, Coverage):
            state = "edge" if body.why in (START, END) else body.state
            self._covered_mm.labels(state).inc(body.to_mm - body.from_mm)
        elif isinstance(body, Defect) and body.phase == "closed" and body.merged_into is None:
            self._defects.labels(body.label).inc()

    def look(self, sight: Sight, web_mm: float) -> None:
        """The line at this moment."""
        before, speed = self._looks, 0.0
        if before is not None and sight.now_s > before[0].now_s:
            speed = (web_mm - before[1]) / (sight.now_s - before[0].now_s)
        self._looks = sight, web_mm, speed

    def text(self, health: Health) -> str:
        """All metrics, in Prometheus' text format 0.0.4."""
        for state in STATES:
            self._health.labels(state).set(state == health.state)
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """What is counted elsewhere, at the moment that Prometheus asks."""
        if self._looks is not None:
            sight, web_mm, speed = self._looks
            yield _counted("foilsight_frames_total", sight.frames)
            yield _counted("foilsight_camera_restarts_total", sight.restarts)
            yield _counted("foilsight_web_mm_total", web_mm)
            yield GaugeMetricFamily("foilsight_web_speed_mm_per_s", _meaning("foilsight_web_speed_mm_per_s"), speed)
        yield _counted("foilsight_events_lost_total", self.lost_events)
        yield _by_label(CounterMetricFamily, "foilsight_frames_lost_total", "cause", self.causes)
        yield _by_label(GaugeMetricFamily, "foilsight_queue_depth", "queue", self.queues)
        yield _by_label(CounterMetricFamily, "foilsight_shadow_strips_total", "what", self.shadow_strips)
        yield _by_label(CounterMetricFamily, "foilsight_shadow_objects_total", "found", self.shadow_objects)

    def _shown(self, kind: type[_Kind], name: str, *labels: str, **options: Any) -> _Kind:
        return kind(name, _meaning(name), labels, registry=self._registry, **options)


def _meaning(name: str) -> str:
    return METRICS[name][1]


def _counted(name: str, value: float) -> Metric:
    return CounterMetricFamily(name, _meaning(name), value)


def _by_label(
    kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, label: str, values: Mapping[str, float]
) -> Metric:
    family = kind(name, _meaning(name), labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def open_files() -> int:
    """File descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


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
                self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
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
