"""What every stage of the line takes of the time, one after another in one thread."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.types import F32, U8, ClassMap, Frame
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.pipeline.ledger import Ledger
from edge.segmentation.backend import RowBackend, RowByRow
from edge.segmentation.model import ModelFile
from edge.segmentation.stream import Segmenter
from edge.surface.solver import SurfaceSolver, empty_surface

STAGES = ("assembly", "surface", "windows", "network", "defects")


class _Timed:
    """A network that keeps its time."""

    def __init__(self, backend: RowBackend) -> None:
        self._backend = backend
        self.name, self.precision = backend.name, backend.precision
        self.seconds = 0.0

    def infer(self, surface: F32) -> tuple[U8, U8]:
        return self.timed(self._backend.infer, surface)

    def row_by_row(self, shape: tuple[int, int, int, int], behind: int) -> RowByRow | None:
        made = self._backend.row_by_row(shape, behind)
        return None if made is None else _TimedRows(made, self)

    def timed(self, work: Callable[[F32], tuple[U8, U8]], surface: F32) -> tuple[U8, U8]:
        begin = time.perf_counter()
        answer = work(surface)
        self.seconds += time.perf_counter() - begin
        return answer


@dataclass
class _TimedRows:
    rows: RowByRow
    network: _Timed

    def begin(self) -> None:
        self.rows.begin()

    def push(self, surface: F32) -> tuple[U8, U8]:
        return self.network.timed(self.rows.push, surface)


def parts_of_time(
    frames: Sequence[Frame], calibration: Calibration, model: ModelFile, backend: RowBackend, config: Config
) -> dict[str, float]:
    """Of a web without watches, in the same memory for every strip; `windows` is what lies around the network."""
    rows, width, pitch_mm = config.assembly.strip_rows, calibration.width, model.info.pitch_mm
    network = _Timed(backend)
    assembler, solver = Assembler(calibration, rows, pitch_mm), SurfaceSolver(calibration)
    segmenter = Segmenter(network, model.info, width, rows, config.segmentation.window_width_px)
    joiner = DefectJoiner(model.info.classes, config.defects, WebAxes(pitch_mm), width)
    ledger = Ledger(calibration, pitch_mm)
    planes, surface_memory, map_memory = assembler.empty_planes(), empty_surface(rows, width), segmenter.empty_map()
    seconds = dict.fromkeys(STAGES, 0.0)
    network.seconds = 0.0  # it was tried
    last = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage] += now - last
        last = now

    def told(class_maps: Sequence[ClassMap]) -> None:
        lap("windows")
        for class_map in class_maps:
            joiner.push(class_map)
            ledger.decide(class_map.rows)
        lap("defects")

    for strips in [*(assembler.push(frame, planes) for frame in frames), assembler.finish(planes)]:
        for strip in strips:
            lap("assembly")
            ledger.push(strip.lights_seen)
            surface = solver.solve(strip, surface_memory)
            lap("surface")
            told(segmenter.push(surface, map_memory))
        lap("assembly")
    told(segmenter.finish(map_memory))
    joiner.finish()
    ledger.finish()
    lap("defects")
    seconds["windows"] -= network.seconds
    seconds["network"] = network.seconds
    total = sum(seconds.values())
    return {stage: each / total for stage, each in seconds.items()}
