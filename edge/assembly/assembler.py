"""From strobed frames to registered strips: what the registrar decides, done by the processor."""

import math
from collections.abc import Iterator

import numpy as np

from edge.assembly.drift import EncoderDrift
from edge.assembly.kernel import lay_rows
from edge.assembly.registrar import FrameCounts, Registered, Registrar
from edge.core.calibration import Calibration
from edge.core.memory import empty_on_page
from edge.core.types import F32, Frame, Pixels, Strip

_FIRST_SLOTS = 32


class Assembler:
    """Lays frames onto a canvas of web rows and hands on strips of `strip_rows` rows as soon as no frame to come can
    show any of them better.

    `pitch_mm` replaces a calibration's unknown pitch. Planes lie in memory of their own, or in `out` where it is given:
    made by `empty_planes`, overwritten by the next strip. A frame of another size than the calibration, or of a light
    it does not know, raises CalibrationError.
    """

    def __init__(self, calibration: Calibration, strip_rows: int, pitch_mm: float) -> None:
        self.registrar = Registrar(calibration, strip_rows, pitch_mm, self._keep)
        self._calibration = calibration
        self._strip_rows = strip_rows
        self._pool: Pixels = np.empty((0, calibration.height, calibration.width), np.uint8)

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames."""
        return self.registrar.counts

    @property
    def encoder_drift(self) -> EncoderDrift:
        """What the frames say of the encoder."""
        return self.registrar.encoder_drift

    @property
    def web_rows(self) -> int:
        """Web rows from the first to the last that any frame has reached."""
        return self.registrar.web_rows

    @property
    def frames_held(self) -> int:
        """Frames kept because a coming strip may take rows from them."""
        return self.registrar.frames_held

    def empty_planes(self) -> F32:
        """Memory for the planes of any strip."""
        return _planes(self._calibration, self._strip_rows)

    def recalibrate(self, calibration: Calibration) -> int:
        """See `Registrar.recalibrate`."""
        return self.registrar.recalibrate(calibration)

    def push(self, frame: Frame, out: F32 | None = None) -> Iterator[Strip]:
        """Take a frame; yield the strips it completes."""
        return (self._strip(registered, out) for registered in self.registrar.push(frame))

    def finish(self, out: F32 | None = None) -> Iterator[Strip]:
        """Yield what is left when no frame will come any more."""
        return (self._strip(registered, out) for registered in self.registrar.finish())

    def _keep(self, slot: int, pixels: Pixels) -> None:
        if pixels.dtype != self._pool.dtype:
            self._pool = self._pool.astype(np.promote_types(pixels.dtype, self._pool.dtype))
        if slot >= len(self._pool):
            more = max(_FIRST_SLOTS, len(self._pool))
            self._pool = np.concatenate([self._pool, np.empty((more, *self._pool.shape[1:]), self._pool.dtype)])
        self._pool[slot] = pixels

    def _strip(self, registered: Registered, out: F32 | None) -> Strip:
        row_map = registered.row_map
        memory = _planes(self._calibration, row_map.slot.shape[1]) if out is None else out
        shape = (*row_map.slot.shape, self._calibration.width)
        planes = memory.reshape(-1)[: math.prod(shape)].reshape(shape)
        dark, gain = self.registrar.dark, self.registrar.gain
        lay_rows(planes, self._pool, row_map.slot, row_map.source_row, dark, gain, registered.shift)
        return Strip(planes, registered.lights_seen, row_map.source_row.astype(np.float32), row_map.first_row)


def _planes(calibration: Calibration, rows: int) -> F32:
    return empty_on_page((calibration.lights, rows, calibration.width), np.float32)
