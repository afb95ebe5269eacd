"""`foilsight run --service`: a line that runs for months, in memory that does not grow.

It leaves no report: what it has to say are events, kept in the outbox, its health, and metrics.
"""

import gc
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from edge.camera.live import LiveCamera
from edge.core.clock import monotonic_ns, utc_now
from edge.core.config import Config
from edge.core.errors import EventsError
from edge.core.types import Alarm, Coverage, Defect, Frame, Status
from edge.events.outbox import Outbox
from edge.events.publisher import EventWriter
from edge.pipeline.inspection import Inspection, Watchers
from edge.pipeline.shadow import ShadowCounts
from edge.segmentation.model import load_model
from edge.service.backends import open_backend
from edge.service.control import CONTROL, ControlServer
from edge.service.folders import state_folder
from edge.service.health import Health, Sight
from edge.service.keys import line_keys
from edge.service.line import Line
from edge.service.logging import service_log
from edge.service.metrics import CAUSES, Metrics, MetricsServer
from edge.service.notify import ServiceManager
from edge.service.recordings import next_free
from edge.service.report import OUTBOX
from edge.service.resuming import Resumption, last_place
from edge.service.run import live_frames, recordings_in
from edge.service.shelf import Names, Shelf
from edge.service.stopping import stop_when_asked
from edge.service.swapping import Change, Swapper
from edge.service.telling import Telling
from edge.service.watch import Watch

KEPT_EVERY_S = 1.0


def serve(line: Line, config: Config, length_mm: float | None = None, out: Path | None = None) -> None:
    """Inspect what the camera sees until ctrl-C, SIGTERM, or `length_mm` of web, and tell of it; with `out`, record it
    as well, in the next file that is free.

    A line that is started again goes on where it was on the web. Raises FoilsightError where it cannot start; later
    troubles of camera or disk are alarms, states of its health, and gaps in the ledger.
    """
    folder = state_folder(config.line)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EventsError(f"{folder}: events cannot be kept there ({error.strerror}): set STATE_DIRECTORY") from error
    manager = ServiceManager.from_environment()
    log = service_log(line=config.line)
    with ExitStack() as stack:
        stack.callback(manager.close)
        stop = stack.enter_context(stop_when_asked())
        running = Running(line, config, folder, manager, log, stack)
        try:
            running.run(stop, length_mm, None if out is None else next_free(out))
        except BaseException as error:
            running.end(f"{type(error).__name__}: {error}")
            raise
        running.end("asked to" if stop.is_set() else "end of the web")


class Running:
    """A line from its first frame to its last; `stack` is left when it has ended."""

    def __init__(
        self, line: Line, config: Config, folder: Path, manager: ServiceManager, log: Any, stack: ExitStack
    ) -> None:
        self._config, self._folder, self._manager, self._log = config, folder, manager, log
        shelf, configured = Shelf(folder), load_model(config.segmentation.model)
        names = Names(model=configured.digest, calibration=line.calibration.digest)
        model, calibration, lost = shelf.resumed(configured, line.calibration)
        line = self._line = replace(line, calibration=calibration)
        backend, notes = open_backend(model, config)
        outbox = stack.enter_context(Outbox(folder / OUTBOX, config.events.keep_mb))
        writer = stack.enter_context(
            EventWriter(
                outbox,
                config.events.publish,
                config.events.heartbeat_s,
                replay_endpoint=config.events.replay,
                line=config.line,
                roll=config.roll,
                model=model.digest,
                calibration=line.calibration.digest,
                keys=line_keys(config.events),
            )
        )
        place = last_place(folder, outbox, config.roll)
        self._health = Health()
        self._metrics = Metrics(model.info.classes, line.calibration.lights, line.calibration.white)
        self._telling = Telling(writer, place)
        watchers = Watchers(checksum=[self._metrics.add_surface], stages=[self._stage_took])
        self._inspection = stack.enter_context(
            Inspection(line.calibration, model.info, backend, config, self._tell, watchers)
        )
        self._resumption = Resumption(place, line.calibration, self._inspection.axes.pitch_mm)
        self._camera: LiveCamera | None = None
        self._last: Frame | None = None
        self._anchor: tuple[float, float] | None = None
        self._loop_s = self._stage_s = self._kept_s = time.monotonic()
        self._keeping = ""
        if config.service.metrics_port:
            server = MetricsServer(config.service.metrics_port, lambda: self._metrics.text(self._health))
            stack.callback(server.close)
        self._swapper = Swapper(self._inspection, config, shelf, model, names, backend.name, self._changed)
        stack.callback(self._swapper.close)
        stack.callback(ControlServer(folder / CONTROL, self._swapper.obey).close)
        for note in (*lost, *notes, *self._inspection.notes, *self._swapper.notes):
            log.warning("note", detail=note)
        log.info(
            "starting", roll=config.roll, from_mm=place.covered_rows * self._inspection.axes.row_mm, state=str(folder)
        )

    def run(self, stop: threading.Event, length_mm: float | None, out: Path | None) -> None:
        """Inspect, and record in `out`, until told to stop; then what is left, and close the roll."""
        gc.collect()
        gc.freeze()  # what is there by now stays: no collection need look at it again
        with Watch(self._health, self._manager, self._sight, self._tell_status, self._keep) as watch:

            def stopped() -> bool:
                self._loop_s = time.monotonic()
                watch.check()
                if stop.is_set():
                    watch.stop()
                return stop.is_set()

            record = None if out is None else recordings_in(out, self._line, self._config, insists=False)
            frames = live_frames(self._line, self._config, self._hear, stopped, length_mm, record, self._meet)
            with closing(frames):
                for frame in frames:
                    self._push(frame)
            self._loop_s = time.monotonic()
            self._inspection.finish()

    def end(self, why: str) -> None:
        """Say that it is over, and keep the place."""
        self._manager.tell(STOPPING=1, STATUS=f"stopped: {why}")
        status = self._health.stop(why)
        if status is not None:
            self._tell_status(status)
        self._telling.flush()
        self._kept_s = 0.0
        self._keep()

    def _meet(self, camera: LiveCamera) -> None:
        self._camera = camera

    def _push(self, frame: Frame) -> None:
        inspection, before_mm = self._inspection, self._inspection.web_mm
        if before_mm == 0:
            self._resumption.begin_at(frame.encoder_mm)
        inspection.push(frame)
        self._loop_s = time.monotonic()
        self._last = frame
        self._metrics.add_frame(frame)
        if inspection.web_mm != before_mm:
            self._anchor = inspection.web_mm, frame.encoder_mm

    def _hear(self, alarm: Alarm) -> None:
        """Of the camera."""
        self._tell([alarm])

    def _tell(self, bodies: Sequence[Defect | Coverage | Alarm]) -> None:
        """From the thread that inspects and the last of the stages."""
        now_s = time.monotonic()
        for body in bodies:
            self._health.hear(body, now_s)
        placed = list(self._resumption.placed(bodies))
        for body in placed:
            self._metrics.add_event(body)
            if isinstance(body, Alarm):
                self._log.warning("alarm", kind=body.kind, detail=body.detail, **self._where())
            elif isinstance(body, Coverage) and body.state == "uninspected":
                self._log.warning("web not inspected", why=body.why, from_mm=body.from_mm, to_mm=body.to_mm)
        self._telling.tell(placed)

    def _changed(self, change: Change) -> int:
        """From the last of the stages: what is told from now on is of another model or calibration."""
        row = change.row + self._resumption.first_row
        if change.part == "calibration" and self._camera is not None:
            self._camera.recalibrate(self._inspection.calibration.calibration)
        self._telling.origin = msgspec.structs.replace(self._telling.origin, **{change.part: change.digest})
        detail = (
            f"{change.part} {change.digest[:12]} in place of {change.before[:12]} "
            f"from row {row} ({row * self._inspection.axes.row_mm:.1f} mm) on"
        )
        self._log.info("swapped", detail=detail)
        self._told(Status(kind=self._health.state, since=utc_now(), detail=detail))
        return row

    def _tell_status(self, status: Status) -> None:
        log = self._log.info if status.kind in ("starting", "inspecting", "stopped") else self._log.warning
        log("health", state=status.kind, detail=status.detail, **self._where())
        self._told(status)

    def _told(self, status: Status) -> None:
        self._metrics.add_event(status)
        self._telling.tell([status])

    def _where(self) -> dict[str, object]:
        """On the web and in the stream of frames."""
        if self._last is None:
            return {}
        row = self._resumption.first_row + round(self._inspection.web_mm / self._inspection.axes.row_mm)
        return {
            "frame": self._last.frame_id,
            "strip": row // self._config.assembly.strip_rows,
            "mm": round(row * self._inspection.axes.row_mm, 3),
        }

    def _stage_took(self, stage: str, seconds: float) -> None:
        self._stage_s = time.monotonic()
        self._metrics.took(stage, seconds)

    def _sight(self) -> Sight:
        """What can be seen of the line."""
        now_s, camera, counts = time.monotonic(), self._camera, self._inspection.frame_counts
        strips = self._inspection.strips_under_way
        if not strips:
            self._stage_s = now_s
        lost = counts.lost
        sight = Sight(
            now_s=now_s, camera="starting", camera_detail="", heart_s=0.0, loop_s=now_s - self._loop_s, stage_s=0
        )
        if camera is not None:
            status, ours = camera.status, camera.counts
            doubtful = sum(ours.doubts.values())
            sight = Sight(
                now_s=now_s,
                camera=status.state,
                camera_detail=status.detail,
                heart_s=max(0.0, (monotonic_ns() - status.heartbeat_ns) / 1e9) if status.heartbeat_ns else 0.0,
                loop_s=now_s - self._loop_s,
                stage_s=now_s - self._stage_s,
                written=status.written,
                frames=ours.yielded,
                lost=lost,
                overwritten=ours.overwritten,
                doubtful=doubtful,
                unusable=counts.unusable,
                encoder_restarts=counts.encoder_restarts,
                restarts=camera.restarts,
                troubles=tuple(filter(None, (self._telling.problem, self._keeping))),
            )
        self._metrics.causes = {
            cause: {"overwritten": sight.overwritten, "doubtful": sight.doubtful}.get(cause, getattr(counts, cause, 0))
            for cause in CAUSES
        }
        self._metrics.queues = {
            "ring": 0 if camera is None else camera.waiting,
            "strips": strips,
            "events": self._telling.waiting,
        }
        self._metrics.lost_events = self._telling.lost
        shadow = self._inspection.shadow
        beside = ShadowCounts() if shadow is None else shadow.counts
        self._metrics.shadow_strips = {"compared": beside.compared, "left_out": beside.left_out}
        self._metrics.shadow_objects = {"both": beside.both, "live": beside.only_live, "shadow": beside.only_shadow}
        self._metrics.look(sight, self._inspection.web_mm)
        return sight

    def _keep(self) -> None:
        """Keep the place, once a second, and write what could not be written."""
        now_s = time.monotonic()
        if now_s - self._kept_s < KEPT_EVERY_S:
            return
        self._kept_s = now_s
        self._telling.tell([])
        place = self._telling.place
        if self._anchor is not None:
            web_mm, encoder_mm = self._anchor
            row = round(web_mm / self._inspection.axes.row_mm) - self._line.calibration.height
            place = place.at(self._resumption.first_row + row, encoder_mm)
        try:
            place.keep(self._folder)
            self._keeping = ""
        except OSError as error:
            self._keeping = f"{self._folder}: the place on the web cannot be kept ({error.strerror})"
