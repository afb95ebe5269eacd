"""Surface and segmentation on the processor."""

import time
from collections import deque
from collections.abc import Callable, Iterator

from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.errors import CalibrationError, ModelError
from edge.core.types import Frame, Strip
from edge.pipeline.changing import FittedCalibration, FittedModel, Turn, Turned, calibration_misfit
from edge.pipeline.passage import Decided, Memory, Passage, Take
from edge.pipeline.shadow import Shadow
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelInfo
from edge.segmentation.stream import Segmenter, open_gate
from edge.surface import KERNELS
from edge.surface.solver import empty_surface

PASSAGES = 3
"""Strips under way at most, one for each stage: where the network is the slow one, one waits for it. More of them would
wait longer, and no strip would come out sooner."""


class ProcessorPath:
    """Assembly and surface in the thread that pushes; segmentation in one of `stages`, behind it.

    `model` and `calibration` are at work; see `Inspection` for how they change. `took` is told the seconds that each
    strip's surface took. Raises as its stages do.
    """

    def __init__(
        self,
        calibration: Calibration,
        model: ModelInfo,
        backend: Backend,
        config: Config,
        pitch_mm: float,
        took: Callable[[str, float], None],
    ) -> None:
        strip_rows, width = config.assembly.strip_rows, calibration.width
        self._assembler = Assembler(calibration, strip_rows, pitch_mm)
        self.registrar = self._assembler.registrar
        self._planes = self._assembler.empty_planes()
        self._pitch_mm, self._kernel = pitch_mm, KERNELS[config.surface.solver]
        self.calibration = FittedCalibration.of(calibration, self._kernel)
        gate = open_gate(model, width, strip_rows) if config.segmentation.gate else None
        self._segmenter = Segmenter(backend, model, width, strip_rows, config.segmentation.window_width_px, gate)
        self.model = FittedModel(model, self._segmenter.network)
        self._next_model: deque[tuple[FittedModel, Turned]] = deque(maxlen=1)
        self._next_calibration: deque[tuple[FittedCalibration, Turned]] = deque(maxlen=1)
        self._shadow: Shadow | None = None
        self._took = took
        self.passages = [
            Passage(Memory(empty_surface(strip_rows, width), self._segmenter.empty_map())) for _ in range(PASSAGES)
        ]
        self.stages = [("segmentation", self._segment)]

    @property
    def shadow(self) -> Shadow | None:
        """See `Inspection.shadow`."""
        return self._shadow

    @shadow.setter
    def shadow(self, shadow: Shadow | None) -> None:
        self._shadow = shadow
        self._segmenter.beside = None if shadow is None else shadow.take

    def fit_model(self, model: ModelInfo, backend: Backend) -> FittedModel:
        """See `Inspection.fit_model`."""
        misfit = self._segmenter.misfit(model)
        if self.calibration.calibration.pitch_mm is None and model.pitch_mm != self._pitch_mm:
            misfit = f"pitch_mm is {model.pitch_mm}, that of the model at work, the web's scale, {self._pitch_mm}"
        if misfit is not None:
            raise ModelError(misfit)
        return FittedModel(model, self._segmenter.fitted(backend))

    def fit_calibration(self, calibration: Calibration) -> FittedCalibration:
        """See `Inspection.fit_calibration`."""
        misfit = calibration_misfit(self.calibration.calibration, calibration)
        if misfit is not None:
            raise CalibrationError(misfit)
        return FittedCalibration.of(calibration, self._kernel)

    def use_model(self, model: FittedModel, turned: Turned) -> None:
        """See `Inspection.use_model`."""
        self._next_model.append((model, turned))

    def use_calibration(self, calibration: FittedCalibration, turned: Turned) -> None:
        """See `Inspection.use_calibration`."""
        self._next_calibration.append((calibration, turned))

    def push(self, frame: Frame, take: Take) -> Iterator[Passage]:
        """The strips that a frame completes, each in a passage, behind what changes with them."""
        yield from self._recalibrated(take)
        for strip in self._assembler.push(frame, self._planes):
            yield self._solved(strip, take)

    def finish(self, take: Take) -> Iterator[Passage]:
        """What is left of the roll, and its end."""
        for strip in self._assembler.finish(self._planes):
            yield self._solved(strip, take)
        passage = take()
        passage.is_last = True
        yield passage

    def _recalibrated(self, take: Take) -> Iterator[Passage]:
        """What is not laid yet is corrected, solved and watched by another calibration, where one waits."""
        if self._next_calibration:
            self.calibration, turned = self._next_calibration.popleft()
            passage = take()
            row = self._assembler.recalibrate(self.calibration.calibration)
            passage.turns = [Turn(row, turned, self.calibration.calibration)]
            yield passage

    def _solved(self, strip: Strip, take: Take) -> Passage:
        passage = take()
        passage.lights_seen = strip.lights_seen
        began_s = time.perf_counter()
        passage.surface = self.calibration.solver.solve(strip, passage.memory.surface)
        self._took("surface", time.perf_counter() - began_s)
        return passage

    def _segment(self, passage: Passage) -> None:
        memory = passage.memory.class_map
        if self._next_model:
            self.model, turned = self._next_model.popleft()
            self._segmenter.use(self.model.network, self.model.info)
            passage.turns = [*passage.turns, Turn(self._segmenter.next_row, turned)]
        maps = [] if passage.surface is None else self._segmenter.push(passage.surface, memory)
        if passage.is_last:
            maps = self._segmenter.finish(memory)
        passage.decided = [Decided(class_map) for class_map in maps]
