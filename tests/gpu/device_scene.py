"""A rendered web, its strobes planned for a GPU and solved on the processor alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge.assembly.assembler import Assembler
from edge.assembly.registrar import Registered
from edge.assembly.row_map import RowMap
from edge.core.gpu import Address, Stream
from edge.core.types import F32, ClassMap, Frame, Pixels, Strip
from edge.pipeline.device import DeviceLine, Done
from edge.pipeline.device_recovery import RecoveringLine
from edge.pipeline.passage import Decided
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelFile
from edge.segmentation.stream import Segmenter
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb
from edge.surface.solver import SurfaceSolver

from .fake_gpu import FakeGpu

STRIP_ROWS, WINDOW_PX, WIDTH_PX = 64, 272, 344


@dataclass
class ProcessorEngine:
    """An `Engine` whose windows are decided by another backend, in the streams of a fake GPU.

    It has memory of its own for one window at a time, as engines have: who lets two overlap gets the second twice.
    """

    gpu: FakeGpu
    backend: Backend
    channels: int
    rows: int
    columns: int
    name: str = "processor"
    precision: str = "f32"
    capturable: bool = True

    def enqueue(
        self, surface: Address, shape: tuple[int, ...], class_index: Address, score: Address, stream: Stream
    ) -> None:
        self.gpu.called("enqueue")
        pixels = shape[2] * shape[3]

        def begin() -> None:
            values = self.gpu.at(surface, 4 * shape[1] * pixels).view(np.float32).reshape(shape)
            assert np.isfinite(values).all(), "the network looks at memory that nobody has written"
            self._within = values.copy()

        def end() -> None:
            for to, plane in zip((class_index, score), self.backend.infer(self._within), strict=True):
                self.gpu.at(to, pixels)[:] = plane.reshape(-1)

        self.gpu.put(stream, begin)
        self.gpu.put(stream, end)


@dataclass
class Plan:
    """What an assembler told a GPU to do: strobes into slots, and row maps with their sideways shift, in order."""

    steps: list[tuple[int, Pixels] | tuple[RowMap, np.ndarray]]
    strips: list[Strip]


class Planner(Assembler):
    """An assembler that writes down what it does."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.plan = Plan([], [])

    def _keep(self, slot: int, pixels: Pixels) -> None:
        super()._keep(slot, pixels)
        self.plan.steps.append((slot, pixels))

    def _strip(self, registered: Registered, out: F32 | None) -> Strip:
        self.plan.steps.append((registered.row_map, registered.shift))
        return super()._strip(registered, out)


def camera(length_mm: float = 35.0, seed: int = 79) -> StrobedCamera:
    return StrobedCamera(RenderedWeb(seed, WIDTH_PX, DENSE), length_mm, Rig())


def planned(frames: Sequence[Frame], of: StrobedCamera) -> Plan:
    planner = Planner(of.calibration, STRIP_ROWS, of.calibration.pitch_mm)
    for frame in frames:
        planner.plan.strips += planner.push(frame)
    planner.plan.strips += planner.finish()
    return planner.plan


def on_processor(plan: Plan, of: StrobedCamera, backend: Backend, model: ModelFile) -> ClassMap:
    solver = SurfaceSolver(of.calibration)
    segmenter = Segmenter(backend, model.info, of.calibration.width, STRIP_ROWS, WINDOW_PX)
    maps = [one for strip in plan.strips for one in segmenter.push(solver.solve(strip))]
    return joined([*maps, *segmenter.finish()])


def joined(maps: Sequence[ClassMap]) -> ClassMap:
    return ClassMap(np.concatenate([m.class_index for m in maps]), np.concatenate([m.score for m in maps]), 0)


def opener(of: StrobedCamera, backend: Backend, model: ModelFile, gpus: Sequence[FakeGpu]) -> Callable[[], DeviceLine]:
    """Opens a line on the next of these GPUs."""
    left = iter(gpus)

    def opened() -> DeviceLine:
        gpu = next(left)
        engine = ProcessorEngine(gpu, backend, 3, STRIP_ROWS + 2 * model.info.halo, WINDOW_PX)
        return DeviceLine(gpu, engine, of.calibration, model.info, STRIP_ROWS, WINDOW_PX, np.uint8)

    return opened


def run(line: DeviceLine | RecoveringLine, plan: Plan) -> list[Decided]:
    done: list[Done] = []
    for first, second in plan.steps:
        if isinstance(first, RowMap):
            done += line.push(first, second)
        else:
            line.upload(first, second)
            done += line.poll()
    return [one for each in [*done, *line.finish()] for one in each.decided]
