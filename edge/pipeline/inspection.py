"""The stages in their order: frames go in, events come out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import cv2

from edge.assembly.registrar import FrameCounts
from edge.core.calibration import Calibration
from edge.core.clock import monotonic_ns
from edge.core.config import Config
from edge.core.errors import CalibrationError, FoilsightError, ModelError
from edge.core.types import Alarm, ClassMap, Coverage, Defect, Frame, Surface
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.pipeline.changing import FittedCalibration, FittedModel, Turn, Turned, in_pieces
from edge.pipeline.device_path import DevicePath, why_not_on_device
from edge.pipeline.frame_alarms import FrameAlarms
from edge.pipeline.latency import Latencies
from edge.pipeline.ledger import Ledger, Totals
from edge.pipeline.passage import Passage
from edge.pipeline.processor import PASSAGES, ProcessorPath
from edge.pipeline.shadow import Shadow
from edge.pipeline.stages import Stages
from edge.pipeline.surface_watch import SurfaceWatch
from edge.segmentation.backend import Backend
from edge.segmentation.device_backend import DeviceBackend
from edge.segmentation.model import ModelInfo

__all__ = ["PASSAGES", "Inspection", "Watchers"]

PITCH_TOLERANCE = 0.05


@dataclass
class Watchers:
    """Who else looks at what passes between the stages; each is called with every item, in order.

    What they are given lies in memory that is used again as soon as they return: they copy what they keep. Those of
    `checksum` are given surfaces too, but look at nothing but the residual of the ninth row of every 16: with nobody
    among `surface`, that is all that a GPU sends back of them. `stages` are called by each stage, in its own thread,
    with its name and the seconds that a strip took in it.
    """

    surface: list[Callable[[Surface], None]] = field(default_factory=list)
    checksum: list[Callable[[Surface], None]] = field(default_factory=list)
    classes: list[Callable[[ClassMap], None]] = field(default_factory=list)
    stages: list[Callable[[str, float], None]] = field(default_factory=list)


class Inspection:
    """One roll under inspection; a context manager, whose end leaves no thread behind.

    Three stages at once: assembly and surface in the thread that pushes, segmentation, and, in a third thread, defects,
    ledger, watchers and `publish`, which gets event bodies in the order of the web: rows are covered only after the
    defects in them. The same frames give the same events in the same order. `push` waits where the stages behind it
    are `PASSAGES` strips late. With a `DeviceBackend` the first two run on the GPU, unless there is a reason why not
    (`why_not_on_device`); what is lost where it fails is uninspected.

    An error in any stage ends the inspection: what was complete before it is still published, then `push` or `finish`
    raises it. Rows that were not decided by then are in no coverage. `notes` says what had to be assumed; `model` and
    `calibration` are at work. Raises CalibrationError for frames that do not fit, ValueError for frames after the end.
    """

    def __init__(
        self,
        calibration: Calibration,
        model: ModelInfo,
        backend: Backend,
        config: Config,
        publish: Callable[[Sequence[Defect | Coverage | Alarm]], None],
        watchers: Watchers | None = None,
    ) -> None:
        self.axes = WebAxes(calibration.pitch_mm or model.pitch_mm, calibration.transport_angle_deg)
        self.notes = list(_notes(calibration, model))
        self._publish = publish
        self._watchers = watchers or Watchers()
        self._path = self._path_of(calibration, model, backend, config)
        self._joiner = DefectJoiner(model.classes, model.rules(config.defects), self.axes, calibration.width)
        self._ledger = Ledger(calibration, self.axes.pitch_mm)
        self._alarms = FrameAlarms()
        self._checksum = SurfaceWatch(self.axes.row_mm)
        self._latencies = Latencies()
        self._turns: list[Turn] = []
        cv2.setNumThreads(1)  # others than the stages' own would wait behind the network's for work of microseconds
        self._stages = Stages(self._path.passages, [*self._path.stages, ("defects", self._tell)], self._took)

    def _path_of(
        self, calibration: Calibration, model: ModelInfo, backend: Backend, config: Config
    ) -> ProcessorPath | DevicePath:
        pitch_mm = self.axes.pitch_mm
        if isinstance(backend, DeviceBackend):
            why_not = why_not_on_device(calibration, config)
            if why_not is None:
                self.notes.append(f"from strobes to classes on the GPU, {backend.gpu}")
                whole = bool(self._watchers.surface)
                return DevicePath(calibration, model, backend, config, pitch_mm, self._took, whole)
            self.notes.append(f"of the GPU, {backend.gpu}, only the network makes use: {why_not}")
        return ProcessorPath(calibration, model, backend, config, pitch_mm, self._took)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._stages.finish()
        else:
            self.close()

    @property
    def frame_counts(self) -> FrameCounts:
        """What became of the frames."""
        return self._path.registrar.counts

    @property
    def totals(self) -> Totals:
        """What became of the web rows so far reported."""
        return self._ledger.totals

    @property
    def web_mm(self) -> float:
        """Length of web seen so far."""
        return self._path.registrar.web_rows * self.axes.row_mm

    @property
    def strips_under_way(self) -> int:
        """Strips, alarms between them counted too, that have not yet left the last stage."""
        return self._stages.under_way

    @property
    def model(self) -> FittedModel:
        """At work."""
        return self._path.model

    @property
    def calibration(self) -> FittedCalibration:
        """At work."""
        return self._path.calibration

    @property
    def shadow(self) -> Shadow | None:
        """What is shown every decision besides; the old one is to be closed by whoever sets another."""
        return None if isinstance(self._path, DevicePath) else self._path.shadow

    @shadow.setter
    def shadow(self, shadow: Shadow | None) -> None:
        self._changeable(ModelError).shadow = shadow

    def fit_model(self, model: ModelInfo, backend: Backend) -> FittedModel:
        """Another model for this web, ready to be used. Takes its time, in any thread. Raises ModelError."""
        return self._changeable(ModelError).fit_model(model, backend)

    def fit_calibration(self, calibration: Calibration) -> FittedCalibration:
        """Another calibration of this line, as `fit_model`. Raises CalibrationError."""
        return self._changeable(CalibrationError).fit_calibration(calibration)

    def use_model(self, model: FittedModel, turned: Turned) -> None:
        """Have another model decide from the next strip on; one that is not used yet is forgotten. From any thread."""
        self._changeable(ModelError).use_model(model, turned)

    def use_calibration(self, calibration: FittedCalibration, turned: Turned) -> None:
        """Solve by another calibration from the next strip on; one that is not used yet is forgotten. From any
        thread."""
        self._changeable(CalibrationError).use_calibration(calibration, turned)

    def _changeable(self, error: type[FoilsightError]) -> ProcessorPath:
        if isinstance(self._path, DevicePath):
            raise error("on the GPU nothing can be changed while web passes: end the line and start it anew")
        return self._path

    def push(self, frame: Frame) -> None:
        """Inspect what this frame completes, behind what is under way."""
        read_ns = monotonic_ns()
        with self._ending_on_error():
            self._stages.check()
            for passage in self._path.push(frame, lambda: self._idle(read_ns)):
                self._stages.send(passage)
            if alarms := self._alarms.push(frame, self._path.registrar, self.calibration.lamps):
                passage = self._idle(read_ns)
                passage.alarms = alarms
                self._stages.send(passage)

    def finish(self) -> None:
        """Inspect what is left, close the roll, and wait until all of it is published."""
        read_ns = monotonic_ns()
        with self._ending_on_error():
            for passage in self._path.finish(lambda: self._idle(read_ns)):
                self._stages.send(passage)
            self.notes += _registration_notes(self.frame_counts)
            self._stages.finish()

    def close(self) -> None:
        """End the threads when all strips that were pushed are through; nothing more can be pushed. Never raises."""
        self._stages.close()

    def latency_ms(self) -> dict[str, float]:
        """From the last frame read to an event published: p50, p99, p999 (to 1 %) and max in ms, over all events."""
        return self._latencies.summary_ms()

    @contextmanager
    def _ending_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _took(self, stage: str, seconds: float) -> None:
        for told in self._watchers.stages:
            told(stage, seconds)

    def _idle(self, read_ns: int) -> Passage:
        """An idle passage without a strip."""
        passage = self._stages.take()
        passage.read_ns, passage.decided, passage.alarms, passage.turns = read_ns, (), (), ()
        passage.lights_seen, passage.surface, passage.is_last = None, None, False
        return passage

    def _tell(self, passage: Passage) -> None:
        """The last stage."""
        alarms = list(passage.alarms)
        if any(turn.calibration is not None for turn in passage.turns):
            self._checksum = SurfaceWatch(self.axes.row_mm)
        if passage.surface is not None and passage.lights_seen is not None:
            alarms += self._checksum.push(passage.surface)
            self._ledger.push(passage.lights_seen)
            for watch in (*self._watchers.checksum, *self._watchers.surface):
                watch(passage.surface)
        self._turns += passage.turns
        for class_map, lost, why in passage.decided:
            for look in self._watchers.classes:
                look(class_map)
            for turns, piece in in_pieces(class_map, self._turns):
                self._turn(turns, passage.read_ns)
                self._emit(self._joiner.push(piece), passage.read_ns)
                covered = self._ledger.decide(piece.rows, lost, why, piece.passed_over_px)
                self._emit(covered, passage.read_ns)
        self._emit(alarms, passage.read_ns)
        if passage.is_last:
            self._emit(self._joiner.finish(), passage.read_ns)
            self._emit(self._ledger.finish(), passage.read_ns)

    def _turn(self, turns: Sequence[Turn], read_ns: int) -> None:
        for turn in turns:
            self._emit(self._ledger.turn(turn.calibration), read_ns)
            turn.turned(turn.row)

    def _emit(self, bodies: Sequence[Defect | Coverage | Alarm], read_ns: int) -> None:
        if bodies:
            self._publish(bodies)
            self._latencies.add((monotonic_ns() - read_ns) / 1e6, len(bodies))


def _notes(calibration: Calibration, model: ModelInfo) -> Iterable[str]:
    if calibration.pitch_mm is None:
        yield f"pitch of the images is unknown: taken as the model's {model.pitch_mm} mm, sizes are in its scale"
    elif abs(calibration.pitch_mm / model.pitch_mm - 1) > PITCH_TOLERANCE:
        yield f"pitch is {calibration.pitch_mm} mm, the model was trained at {model.pitch_mm} mm"


def _registration_notes(counts: FrameCounts) -> Iterable[str]:
    if 2 * counts.unobservable > counts.compared:
        yield (
            f"whether the encoder is right could not be seen in {counts.unobservable} of {counts.compared} "
            "comparisons: the web is too smooth, or frames overlap too little; rows lie where the encoder says"
        )
