"""Surface and segmentation on the GPU: what an inspection gives to the device loop, and takes from it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from edge.assembly.registrar import Registered, Registrar
from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.types import ClassMap, Frame, Pixels
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
_POLL_S = 0.001


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
    """From strobes to classes on the GPU, fed by the thread that pushes; the one of `stages` waits for what comes back.

    One of them at a time is at the GPU. `whole`: surfaces come back whole, not only the residual of some rows. `took`
    is told the seconds that laying each strip took, which the GPU works on later. Raises as `DeviceLine` and
    `RecoveringLine` do.
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
        self._lock = threading.Lock()
        self._done: deque[Done] = deque()
        self.stages = [("segmentation", self._await)]
        self.passages = [Passage(_memory(rows, rows + 2 * model.halo, width)) for _ in range(PASSAGES + _BEHIND)]

    def push(self, frame: Frame, take: Take) -> Iterator[Passage]:
        """The strips that a frame completes, each in a passage, on their way."""
        for registered in self.registrar.push(frame):
            yield self._laid(registered, take)

    def finish(self, take: Take) -> Iterator[Passage]:
        """What is left of the roll, and its end."""
        for registered in self.registrar.finish():
            yield self._laid(registered, take)
        last = take()
        last.is_last = True
        with self._lock:
            self._done += self._line.finish(last.memory)
        yield last

    def _keep(self, slot: int, pixels: Pixels) -> None:
        with self._lock:
            self._line.upload(slot, pixels)

    def _laid(self, registered: Registered, take: Take) -> Passage:
        passage = take()
        passage.lights_seen = registered.lights_seen
        began_s = time.perf_counter()
        with self._lock:
            self._done += self._line.push(registered.row_map, registered.shift, passage.memory)
        self._took("surface", time.perf_counter() - began_s)
        return passage

    def _await(self, passage: Passage) -> None:
        """Wait until a strip is through; whoever pushes need not come by for that."""
        while passage.lights_seen is not None or passage.is_last:
            with self._lock:
                if not self._done:
                    self._done += self._line.poll()
                if self._done:
                    passage.surface, passage.decided = self._done.popleft()
                    return
            time.sleep(_POLL_S)


def _memory(strip_rows: int, window_rows: int, width: int) -> Memory:
    surface = empty_surface(strip_rows, width)
    surface.residual[:] = np.nan  # most rows stay so where only some come back
    planes = np.empty((2, window_rows, width), np.uint8)
    return Memory(surface, ClassMap(planes[0], planes[1], 0))
