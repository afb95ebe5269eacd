"""The memory of the device loop: what a strip needs on its way, and where windows are made."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.core.gpu import Address, Driver, Event, Stream
from edge.core.types import F32, U8, Surface
from edge.pipeline.device_network import Asked, DeviceNetwork
from edge.pipeline.passage import Memory
from edge.surface.cuda import BLOCK, CHANNELS, SOURCE_ROW, USUAL_BYTES, WINDOW, window

CHECKSUM_EVERY, CHECKSUM_FIRST = 16, 8
"""Rows whose residual comes back where nobody looks at the whole surface: those that `SurfaceWatch` looks at."""
WHOLE = ("normal_x", "normal_y", "normal_z", "albedo", "checksum")
assert set(WHOLE) <= set(CHANNELS)


class SurfaceBack:
    """What comes back of a strip's surface: all of it, where `whole`, or the residual of some rows."""

    def __init__(self, driver: Driver, rows: int, width: int, whole: bool) -> None:
        self._whole, self._width = whole, width
        size = rows * width * 4 * len(WHOLE) if whole else -(-rows // CHECKSUM_EVERY) * width * 4
        self._planes, self._planes_there = driver.pinned(size), driver.allocate(size)
        self._valid = driver.pinned(rows * width if whole else 1)
        self.valid_there = driver.allocate(rows * width) if whole else 0

    def window(self, rows: int) -> NDArray[np.void]:
        """Where the surface kernel puts it, of a strip of so many rows."""
        if self._whole:
            return window(self._planes_there, WHOLE, rows, self._width)
        sampled = self._sampled(rows)
        return window(
            self._planes_there,
            ("checksum",),
            sampled,
            self._width,
            row_shift=-CHECKSUM_FIRST,
            row_step=CHECKSUM_EVERY,
        )

    def download(self, driver: Driver, rows: int, stream: Stream) -> None:
        """Behind the kernel."""
        size = rows * self._width
        if self._whole:
            driver.download(self._planes[: 4 * len(WHOLE) * size], self._planes_there, stream)
            driver.download(self._valid[:size], self.valid_there, stream)
        elif self._sampled(rows):
            driver.download(self._planes[: 4 * self._sampled(rows) * self._width], self._planes_there, stream)

    def take(self, memory: Surface, rows: int, first_row: int) -> Surface:
        """As much of a surface's memory as the strip needs, with what has come back."""
        surface = first_rows(memory, rows, first_row)
        if self._whole:
            planes: F32 = self._planes[: 4 * len(WHOLE) * rows * self._width].view(np.float32)
            planes = planes.reshape(len(WHOLE), rows, self._width)
            surface.normals[:], surface.albedo[:], surface.residual[:] = planes[:3], planes[3], planes[4]
            surface.valid[:] = self._valid[: rows * self._width].reshape(rows, self._width)
        else:
            sampled = self._planes[: 4 * self._sampled(rows) * self._width].view(np.float32)
            surface.residual[CHECKSUM_FIRST::CHECKSUM_EVERY] = sampled.reshape(-1, self._width)
        return surface

    @staticmethod
    def _sampled(rows: int) -> int:
        return max(0, -(-(rows - CHECKSUM_FIRST) // CHECKSUM_EVERY))


def first_rows(memory: Surface, rows: int, first_row: int) -> Surface:
    """So many rows of a surface's memory, for the strip that begins with `first_row`."""
    normals, albedo, residual = memory.normals[:, :rows], memory.albedo[:rows], memory.residual[:rows]
    return Surface(normals, albedo, residual, memory.valid[:rows], first_row)


@dataclass(eq=False)
class UnderWay:
    """What one strip needs on its way; used again when it is through."""

    stream: Stream
    solved: Event
    decided: Event
    done: Event
    plan: U8
    plan_there: Address
    usual_there: Address
    samples_there: Address
    seen: U8
    seen_there: Address
    surface: SurfaceBack
    flags: U8
    answers: list[U8]
    rows: int = 0
    first_row: int = 0
    asked: Asked | None = None
    memory: Memory | None = None


def under_way_on(
    driver: Driver,
    lights: int,
    rows: int,
    width: int,
    windows: int,
    network: DeviceNetwork,
    samples_per_block: int,
    whole: bool,
) -> UnderWay:
    """For strips of so many rows, each part of so many windows of the network's."""
    plan = rows * (lights * SOURCE_ROW.itemsize + BLOCK.itemsize + 8) + (windows + 1) * WINDOW.itemsize
    return UnderWay(
        stream=driver.stream(),
        solved=driver.event(),
        decided=driver.event(),
        done=driver.event(),
        plan=driver.pinned(plan),
        plan_there=driver.allocate(plan),
        usual_there=driver.allocate(rows * USUAL_BYTES),
        samples_there=driver.allocate(rows * samples_per_block * 8),
        seen=driver.pinned(rows),
        seen_there=driver.allocate(rows),
        surface=SurfaceBack(driver, rows, width, whole),
        flags=network.new_flags(),
        answers=network.new_answers(),
    )
