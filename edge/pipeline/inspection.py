"""The stages in their order: frames go in, events come out."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from edge.assembly.assembler import Assembler, FrameCounts
from edge.core.calibration import Calibration
from edge.core.clock import monotonic_ns
from edge.core.config import Config
from edge.core.errors import CalibrationError, ModelError
from edge.core.types import U8, Alarm, ClassMap, Coverage, Defect, Frame, Strip, Surface
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.pipeline.changing import FittedCalibration, FittedModel, Turn, Turned, calibration_misfit, in_pieces
from edge.pipeline.frame_alarms import FrameAlarms
from edge.pipeline.latency import Latencies
from edge.pipeline.ledger import Ledger, Totals
from edge.pipeline.shadow import Shadow
from edge.pipeline.stages import Stages
from edge.pipeline.surface_watch import SurfaceWatch
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelInfo
from edge.segmentation.stream import Segmenter, open_gate
from edge.surface import KERNELS
from edge.surface.solver import empty_surface

PASSAGES = 3
"""Strips under way at most, one for each stage: where the network is the slow one, one waits for it. More of them would
wait longer, and no strip would come out sooner."""
PITCH_TOLERANCE = 0.05


@dataclass
class Watchers:
    """Who else looks at what passes between the stages; each is called with every item, in order.

    What they are given lies in memory that is used again as soon as they return: they copy what they keep. `stages` are
    called by each stage, in its own thread, with its name and the seconds that a strip took in it.
    """

    surface: list[Callable[[Surface], None]] = field(default_factory=list)
    classes: list[Callable[[ClassMap], None]] = field(default_factory=list)
    stages: list[Callable[[str, float], None]] = field(default_factory=list)


@dataclass(eq=False)
class _Passage:
    """What goes through the stages together: a strip as it is now, and the alarms and the end of the roll behind it.

    `surface_memory` and `map_memory` are made once. They are the passage's: the first stage writes the one, the second
    the other, and both are overwritten when the passage, having left the last stage, is taken again.
    `read_ns`: when the frame that completed the strip was read; `turns`: what changes, on rows no earlier passage holds
    class maps of.
    """

    surface_memory: Surface
    map_memory: ClassMap
    read_ns: int = 0
    lights_seen: U8 | None = None
    surface: Surface | None = None
    class_maps: Sequence[ClassMap] = ()
    alarms: Sequence[Alarm] = ()
    turns: Sequence[Turn] = ()
    is_last: bool = False


class Inspection:
    """One roll under inspection; a context manager, whose end leaves no thread behind.

    Three stages at once: assembly and surface in the thread that pushes, segmentation, and, in a third thread, defects,
    ledger, watchers and `publish`, which gets event bodies in the order of the web: rows are covered only after the
    defects in them. The same frames give the same events in the same order. `push` waits where the stages behind it
    are `PASSAGES` strips late.

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
        strip_rows, width = config.assembly.strip_rows, calibration.width
        self._assembler = Assembler(calibration, strip_rows, self.axes.pitch_mm)
        self._planes = self._assembler.empty_planes()
        self._kernel = KERNELS[config.surface.solver]
        self.calibration = FittedCalibration.of(calibration, self._kernel)
        gate = open_gate(model, width, strip_rows) if config.segmentation.gate else None
        self._segmenter = Segmenter(backend, model, width, strip_rows, config.segmentation.window_width_px, gate)
        self.model = FittedModel(model, self._segmenter.network)
        self._joiner = DefectJoiner(model.classes, config.defects, self.axes, width)
        self._ledger = Ledger(calibration, self.axes.pitch_mm)
        self._alarms = FrameAlarms()
        self._checksum = SurfaceWatch(self.axes.row_mm)
        self._latencies = Latencies()
        self._shadow: Shadow | None = None
        self._next_model: deque[tuple[FittedModel, Turned]] = deque(maxlen=1)
        self._next_calibration: deque[tuple[FittedCalibration, Turned]] = deque(maxlen=1)
        self._turns: list[Turn] = []
        self._stages = Stages(
            [_Passage(empty_surface(strip_rows, width), self._segmenter.empty_map()) for _ in range(PASSAGES)],
            [("segmentation", self._segment), ("defects", self._tell)],
            self._took,
        )

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
        return self._assembler.counts

    @property
    def totals(self) -> Totals:
        """What became of the web rows so far reported."""
        return self._ledger.totals

    @property
    def web_mm(self) -> float:
        """Length of web seen so far."""
        return self._assembler.web_rows * self.axes.row_mm

    @property
    def strips_under_way(self) -> int:
        """Strips, alarms between them counted too, that have not yet left the last stage."""
        return self._stages.under_way

    @property
    def shadow(self) -> Shadow | None:
        """What is shown every decision besides; the old one is to be closed by whoever sets another."""
        return self._shadow

    @shadow.setter
    def shadow(self, shadow: Shadow | None) -> None:
        self._shadow = shadow
        self._segmenter.beside = None if shadow is None else shadow.take

    def fit_model(self, model: ModelInfo, backend: Backend) -> FittedModel:
        """Another model for this web, ready to be used. Takes its time, in any thread. Raises ModelError."""
        misfit = self._segmenter.misfit(model)
        if self.calibration.calibration.pitch_mm is None and model.pitch_mm != self.axes.pitch_mm:
            misfit = f"pitch_mm is {model.pitch_mm}, that of the model at work, the web's scale, {self.axes.pitch_mm}"
        if misfit is not None:
            raise ModelError(misfit)
        return FittedModel(model, self._segmenter.fitted(backend))

    def fit_calibration(self, calibration: Calibration) -> FittedCalibration:
        """Another calibration of this line, as `fit_model`. Raises CalibrationError."""
        misfit = calibration_misfit(self.calibration.calibration, calibration)
        if misfit is not None:
            raise CalibrationError(misfit)
        return FittedCalibration.of(calibration, self._kernel)

    def use_model(self, model: FittedModel, turned: Turned) -> None:
        """Have another model decide from the next strip on; one that is not used yet is forgotten. From any thread."""
        self._next_model.append((model, turned))

    def use_calibration(self, calibration: FittedCalibration, turned: Turned) -> None:
        """Solve by another calibration from the next strip on; one that is not used yet is forgotten. From any
        thread."""
        self._next_calibration.append((calibration, turned))

    def push(self, frame: Frame) -> None:
        """Inspect what this frame completes, behind what is under way."""
        read_ns = monotonic_ns()
        with self._ending_on_error():
            self._stages.check()
            self._recalibrate(read_ns)
            for strip in self._assembler.push(frame, self._planes):
                self._inspect(strip, read_ns)
            alarms = self._alarms.push(frame, self._assembler, self.calibration.lamps)
            if alarms:
                self._stages.send(self._passage(read_ns, alarms=alarms))

    def finish(self) -> None:
        """Inspect what is left, close the roll, and wait until all of it is published."""
        read_ns = monotonic_ns()
        with self._ending_on_error():
            for strip in self._assembler.finish(self._planes):
                self._inspect(strip, read_ns)
            self.notes += _registration_notes(self.frame_counts)
            self._stages.send(self._passage(read_ns, is_last=True))
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

    def _recalibrate(self, read_ns: int) -> None:
        """What is not laid yet is corrected, solved and watched by another calibration, where one waits."""
        if self._next_calibration:
            fitted, turned = self._next_calibration.popleft()
            self.calibration = fitted
            self._checksum = SurfaceWatch(self.axes.row_mm)
            row = self._assembler.recalibrate(fitted.calibration)
            self._stages.send(self._passage(read_ns, turns=[Turn(row, turned, fitted.calibration)]))

    def _inspect(self, strip: Strip, read_ns: int) -> None:
        """The first stage, behind assembly."""
        passage = self._passage(read_ns)
        passage.lights_seen = strip.lights_seen
        began_s = time.perf_counter()
        passage.surface = self.calibration.solver.solve(strip, passage.surface_memory)
        self._took("surface", time.perf_counter() - began_s)
        passage.alarms = list(self._checksum.push(passage.surface))
        self._stages.send(passage)

    def _took(self, stage: str, seconds: float) -> None:
        for told in self._watchers.stages:
            told(stage, seconds)

    def _passage(
        self, read_ns: int, *, alarms: Sequence[Alarm] = (), turns: Sequence[Turn] = (), is_last: bool = False
    ) -> _Passage:
        """An idle passage without a strip."""
        passage = self._stages.take()
        passage.read_ns, passage.alarms, passage.turns, passage.is_last = read_ns, alarms, turns, is_last
        passage.lights_seen = passage.surface = None
        return passage

    def _segment(self, passage: _Passage) -> None:
        """The second stage."""
        passage.class_maps = []
        if self._next_model:
            self.model, turned = self._next_model.popleft()
            self._segmenter.use(self.model.network, self.model.info)
            passage.turns = [*passage.turns, Turn(self._segmenter.next_row, turned)]
        if passage.surface is not None:
            passage.class_maps = self._segmenter.push(passage.surface, passage.map_memory)
        if passage.is_last:
            passage.class_maps = self._segmenter.finish(passage.map_memory)

    def _tell(self, passage: _Passage) -> None:
        """The third stage."""
        if passage.surface is not None and passage.lights_seen is not None:
            self._ledger.push(passage.lights_seen)
            for watch in self._watchers.surface:
                watch(passage.surface)
        self._turns += passage.turns
        for class_map in passage.class_maps:
            for look in self._watchers.classes:
                look(class_map)
            for turns, piece in in_pieces(class_map, self._turns):
                self._turn(turns, passage.read_ns)
                self._emit(self._joiner.push(piece), passage.read_ns)
                self._emit(self._ledger.decide(piece.rows, passed_over_px=piece.passed_over_px), passage.read_ns)
        self._emit(passage.alarms, passage.read_ns)
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
