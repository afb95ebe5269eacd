"""Models on a GPU, for windows that come from host memory and go back there."""

from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Protocol

import numpy as np

from edge.core.errors import ModelError
from edge.core.gpu import Address, Driver, GpuError, Stream
from edge.core.types import F32, U8

ANYTHING = Path(__file__).with_name("anything.cu")
"""A kernel that tells whether what was decided holds anything."""
ANYTHING_ARGUMENTS = np.dtype([("classes", np.uint64), ("flag", np.uint64), ("count", np.int64)])
"""`Arguments` of anything.cu."""


class Engine(Protocol):
    """Executes one model on windows in device memory, in streams of the driver it was opened with.

    `rows`, `columns`: largest window; `channels`: of the surface; `capturable`: whether what it puts into a stream for
    a window may be captured (`Driver.capture`), once it has decided one of that shape.
    """

    name: str
    precision: str
    channels: int
    rows: int
    columns: int
    capturable: bool

    def enqueue(
        self, surface: Address, shape: tuple[int, ...], class_index: Address, score: Address, stream: Stream
    ) -> None:
        """Decide a window of shape (1, C, H, W): class and score u8, of H W bytes each, come at these addresses.

        Raises GpuError.
        """
        ...


class DeviceBackend:
    """An engine and the GPU it runs on, kept open. As a `Backend` it decides one window at a time.

    `open_engine` opens both; that is done at once, and again after an error of the GPU. The window that `infer` was
    about, which is still in host memory, is then decided again, once: nothing is lost. Raises GpuError where that fails
    too. `gpu`: its name; `name`, `precision`: of the engine; `reopened`: how often.
    """

    def __init__(self, open_engine: Callable[[], tuple[Driver, Engine]]) -> None:
        self._open = open_engine
        self._driver, self._engine = open_engine()
        self.gpu, self.name, self.precision = self._driver.gpu, self._engine.name, self._engine.precision
        self.reopened = 0
        self._is_used = self._has_memory = False

    def unused(self) -> tuple[Driver, Engine]:
        """The GPU and the engine, with nothing on them: opened anew where they have been given out before."""
        if self._is_used:
            self.close()
            self._has_memory = False
            self._driver, self._engine = self._open()
            self.reopened += 1
        self._is_used = True
        return self._driver, self._engine

    def _begin(self) -> None:
        driver, engine = self.unused()
        pixels = engine.rows * engine.columns
        size = 4 * engine.channels * pixels
        self._surface, self._surface_host = driver.allocate(size), driver.pinned(size)
        self._class_index, self._score = driver.allocate(pixels), driver.allocate(pixels)
        self._answers = cycle([driver.pinned(2 * pixels), driver.pinned(2 * pixels)])
        self._stream, self._done = driver.stream(), driver.event()
        self._has_memory = True

    def infer(self, surface: F32) -> tuple[U8, U8]:
        """See `Backend.infer`."""
        _, channels, rows, columns = surface.shape
        engine = self._engine
        if surface.shape[0] != 1 or channels != engine.channels or rows > engine.rows or columns > engine.columns:
            raise ModelError(
                f"the engine takes one window of {engine.channels} channels and up to {engine.rows} x "
                f"{engine.columns} px, not {surface.shape}: build it for the windows of this line"
            )
        try:
            return self._infer(surface)
        except GpuError:
            self._has_memory = False
            return self._infer(surface)

    def _infer(self, surface: F32) -> tuple[U8, U8]:
        if not self._has_memory:
            self._begin()
        driver, stream = self._driver, self._stream
        shape, pixels = surface.shape, surface.shape[2] * surface.shape[3]
        source = self._surface_host[: surface.nbytes]
        source[:] = surface.reshape(-1).view(np.uint8)
        answer = next(self._answers)[: 2 * pixels]
        driver.upload(self._surface, source, stream)
        self._engine.enqueue(self._surface, shape, self._class_index, self._score, stream)
        driver.download(answer[:pixels], self._class_index, stream)
        driver.download(answer[pixels:], self._score, stream)
        driver.record(self._done, stream)
        driver.synchronise(self._done)
        class_index, score = answer.reshape(2, 1, *shape[2:])
        return class_index, score

    def close(self) -> None:
        """Give the GPU back. Never raises."""
        with suppress(GpuError):
            self._driver.close()
