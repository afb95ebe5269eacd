"""A web through the stages, wherever its frames come from, and the report it leaves."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.errors import EventsError
from edge.core.types import Alarm, Coverage, Defect, Frame
from edge.core.web_axes import WebAxes
from edge.events.outbox import Outbox
from edge.events.publisher import EventWriter
from edge.pipeline.inspection import Inspection, Watchers
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelFile, load_model
from edge.service.album import DEFECTS, ROLL_ALBEDO, ROLL_MAP, SECTIONS, Album
from edge.service.backends import open_backend
from edge.service.gallery import Truth
from edge.service.keeping import ClassKeeper, SurfaceKeeper
from edge.service.keys import line_keys
from edge.service.page import PAGE, write_page
from edge.service.progress import web_progress
from edge.service.report import EVENTS, OUTBOX, REPORT, Report, fresh_folder, joined, write_report

_FILES = (EVENTS, REPORT, PAGE, ROLL_MAP, ROLL_ALBEDO, OUTBOX, f"{OUTBOX}-wal", f"{OUTBOX}-shm")


@dataclass
class _Said:
    """What was said on the way that the report repeats."""

    notes: list[str]
    defects: list[Defect] = field(default_factory=list)
    not_inspected: list[Coverage] = field(default_factory=list)

    def take(self, bodies: Sequence[Defect | Coverage | Alarm]) -> None:
        for body in bodies:
            if isinstance(body, Alarm):
                self.notes.append(f"alarm: {body.detail}")
            elif isinstance(body, Coverage):
                if body.state != "inspected":
                    self.not_inspected.append(body)
            elif body.phase == "closed" and body.merged_into is None:
                self.defects.append(msgspec.structs.replace(body, contour_mm=[]))


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """`keep`: planes to keep in the report's folder, of "surface", "classes"; `truth`: shown beside what was found;
    `notes`: what must be said of the source; `quiet`: no progress bar; `keep_events_mb`: of events, None for all."""

    keep: frozenset[str] = frozenset()
    truth: Truth | None = None
    notes: Sequence[str] = ()
    quiet: bool = False
    keep_events_mb: float | None = None


Tell = Callable[[Alarm], None]
Frames = Callable[[Tell], Generator[Frame]]
"""The frames of a source; it may tell alarms of its own, from any thread."""


def inspect_web(
    frames: Frames,
    calibration: Calibration,
    web_mm: float | None,
    name: str,
    roll: str,
    config: Config,
    folder: Path,
    stop: threading.Event,
    wishes: Wishes,
) -> Report:
    """Inspect `frames` from the first to the last and leave a report in `folder`.

    `web_mm`: length of web they will show, None where nobody knows. `stop`: set by who has ended them before their end;
    what was read is still inspected, reported and noted. Raises FoilsightError.
    """
    model = load_model(config.segmentation.model)
    backend, backend_notes = open_backend(model, config)
    fresh_folder(folder, _FILES, (DEFECTS, SECTIONS))
    with ExitStack() as stack:
        watchers = _keepers(wishes.keep, folder, stack)
        outbox = stack.enter_context(Outbox(folder / OUTBOX, wishes.keep_events_mb))
        writer, warnings = _writer(outbox, config, roll, model, calibration, stack)
        said = _Said([*wishes.notes, *backend_notes, *warnings])
        axes = WebAxes(calibration.pitch_mm or model.info.pitch_mm, calibration.transport_angle_deg)
        album = Album(model.info.classes, calibration.width, axes, web_mm, wishes.truth)
        watchers.surface.append(album.add_surface)
        watchers.classes.append(album.add_classes)

        def publish(bodies: Sequence[Defect | Coverage | Alarm]) -> None:
            writer.publish(*bodies)
            said.take(bodies)
            for body in bodies:
                if not isinstance(body, Alarm):
                    album.add_event(body)

        inspection = stack.enter_context(Inspection(calibration, model.info, backend, config, publish, watchers))
        started = time.perf_counter()
        with web_progress("inspecting", web_mm, wishes.quiet) as at:
            with closing(frames(lambda alarm: publish([alarm]))) as stream:
                for frame in stream:
                    inspection.push(frame)
                    at(inspection.web_mm)
            inspection.finish()
        seconds = time.perf_counter() - started
        if stop.is_set():
            said.notes.append(f"stopped by hand after {inspection.web_mm:.0f} mm")
        report = _report(inspection, seconds, stop.is_set(), name, roll, backend, model, calibration, said)
        write_report(folder, report, outbox)
        write_page(folder, report, model.info.classes[1:], album.write(folder, f"{name}   {report.web_mm:,.0f} mm"))
    return report


def _keepers(keep: frozenset[str], folder: Path, stack: ExitStack) -> Watchers:
    watchers = Watchers()
    if "surface" in keep:
        surfaces = SurfaceKeeper(folder)
        stack.callback(surfaces.close)
        watchers.surface.append(surfaces.add)
    if "classes" in keep:
        classes = ClassKeeper(folder)
        stack.callback(classes.close)
        watchers.classes.append(classes.add)
    return watchers


def _writer(
    outbox: Outbox, config: Config, roll: str, model: ModelFile, calibration: Calibration, stack: ExitStack
) -> tuple[EventWriter, list[str]]:
    """A publisher, or one that only fills the outbox where somebody else, say the live line, has the address."""

    keys = line_keys(config.events)

    def opened(publish: str | None, replay: str | None) -> EventWriter:
        writer = EventWriter(
            outbox,
            publish,
            config.events.heartbeat_s,
            replay_endpoint=replay,
            line=config.line,
            roll=roll,
            model=model.digest,
            calibration=calibration.digest,
            keys=keys,
        )
        return stack.enter_context(writer)

    try:
        return opened(config.events.publish, config.events.replay), []
    except EventsError as error:
        return opened(None, None), [f"events were not published, the outbox has them: {error}"]


def _report(
    inspection: Inspection,
    seconds: float,
    stopped: bool,
    name: str,
    roll: str,
    backend: Backend,
    model: ModelFile,
    calibration: Calibration,
    said: _Said,
) -> Report:
    totals, counts, row_mm = inspection.totals, inspection.frame_counts, inspection.axes.row_mm
    return Report(
        source=name,
        roll=roll,
        width_mm=calibration.width * inspection.axes.column_mm,
        web_mm=totals.rows * row_mm,
        inspected_mm=totals.inspected * row_mm,
        degraded_mm=totals.degraded * row_mm,
        uninspected_mm=totals.uninspected * row_mm,
        edge_mm=totals.edge * row_mm,
        not_inspected=joined(said.not_inspected),
        frames=counts.received,
        frames_lost=counts.lost,
        frames_unusable=counts.unusable,
        mpix_per_s=totals.rows * calibration.width / 1e6 / seconds,
        latency_ms=inspection.latency_ms(),
        backend=backend.name,
        precision=backend.precision,
        model=model.digest,
        calibration=calibration.digest,
        notes=[*inspection.notes, *said.notes],
        stopped=stopped,
        defects=said.defects,
    )
