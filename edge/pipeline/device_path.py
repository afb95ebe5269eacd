"""Surface and segmentation on the GPU: what an inspection gives to the device loop, and takes from it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from edge.assembly.registrar import Registered, Registrar
from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.types import Alarm, ClassMap, Frame, Pixels
from edge.pipeline.changing import FittedCalibration, FittedModel
from edge.pipeline.device import PASSAGES, DeviceLine, Done
from edge.pipeline.device_recovery import RecoveringLine
from edge.pipeline.passage import Memory, Passage, Take
from edge.segmentation.device_backend import DeviceBackend
from edge.segmentation.model import ModelInfo
from edge.segmentation.network import WindowNetwork
from edge.surface import KERNELS
from edge.surface.cuda import LIGHTS
from edge.surface.solver import empty_surface

_BEHIND = 3
"""Passages besides those on the GPU: one that is laid, and those that the stages behind have in hand."""
_LARGEST_U8 = 255


def why_not_on_device(calibration: Calibration, config: Config) -> str | None:
    """Why surfaces must be solved on the processor, None where they need not."""
    if config.segmentation.gate:
        return "the gate looks at surfaces on the processor"
    if config.surface.solver != "plain":
        return f"the solver {config.surface.solver} runs on the processor"
    if calibration.lights > LIGHTS:
        return f"the GPU solves from 3 or {LIGHTS} lights, not from {calibration.lights}"
    return None


class DevicePath:
    """From strobes to classes on the GPU, driven by the thread that pushes.

    `whole`: surfaces come back whole, not only the residual of some rows. `took` is told the seconds that laying each
    strip took, which the GPU works on later. Raises as `DeviceLine` and `RecoveringLine` do.
    """

    def __init__(
        self,
        calibration: Calibration,
        model: ModelInfo,
        backend: DeviceBackend,
        config: Config,
        pitch_mm: float,
        took: Callable[[str, float], None],
        whole: bool,
    ) -> None:
        rows, width = config.assembly.strip_rows, calibration.width
        dtype: type[np.generic] = np.uint8 if calibration.white <= _LARGEST_U8 else np.uint16

        def open_line() -> DeviceLine:
            driver, engine = backend.unused()
            window_width = config.segmentation.window_width_px
            graphs = backend.reopened == 0  # a GPU that has failed is asked for nothing that it might do without
            return DeviceLine(driver, engine, calibration, model, rows, window_width, dtype, whole, graphs)

        self._line = RecoveringLine(open_line, width, model.halo)
        self.registrar = Registrar(calibration, rows, pitch_mm, self._keep)
        self.calibration = FittedCalibration.of(calibration, KERNELS[config.surface.solver])
        self.model = FittedModel(model, WindowNetwork(backend, len(model.channels), ()))
        self._took = took
        self._under_way: deque[Passage] = deque()
        self.stages: list[tuple[str, Callable[[Passage], None]]] = []
        self.passages = [Passage(_memory(rows, rows + 2 * model.halo, width)) for _ in range(PASSAGES + _BEHIND)]

    def push(self, frame: Frame, take: Take) -> Iterator[Passage]:
        """The strips that are through by now, each in a passage."""
        for registered in self.registrar.push(frame):
            yield from self._laid(registered, take)
        yield from self._through(self._line.poll())

    def tell(self, alarms: Sequence[Alarm], take: Take) -> Iterator[Passage]:
        """Alarms, behind all strips so far."""
        if self._under_way:
            last = self._under_way[-1]
            last.alarms = [*last.alarms, *alarms]
            return
        passage = take()
        passage.alarms = alarms
        yield passage

    def finish(self, take: Take) -> Iterator[Passage]:
        """What is left of the roll, and its end."""
        for registered in self.registrar.finish():
            yield from self._laid(registered, take)
        last = take()
        last.is_last = True
        self._under_way.append(last)
        yield from self._through(self._line.finish(last.memory))

    def _keep(self, slot: int, pixels: Pixels) -> None:
        self._line.upload(slot, pixels)

    def _laid(self, registered: Registered, take: Take) -> Iterator[Passage]:
        passage = take()
        passage.lights_seen = registered.lights_seen
        self._under_way.append(passage)
        began_s = time.perf_counter()
        done = self._line.push(registered.row_map, registered.shift, passage.memory)
        self._took("surface", time.perf_counter() - began_s)
        yield from self._through(done)

    def _through(self, done: Iterable[Done]) -> Iterator[Passage]:
        for surface, decided in done:
            passage = self._under_way.popleft()
            passage.surface, passage.decided = surface, decided
            yield passage


def _memory(strip_rows: int, window_rows: int, width: int) -> Memory:
    surface = empty_surface(strip_rows, width)
    surface.residual[:] = np.nan  # most rows stay so where only some come back
    planes = np.empty((2, window_rows, width), np.uint8)
    return Memory(surface, ClassMap(planes[0], planes[1], 0))
