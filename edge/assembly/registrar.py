"""From strobed frames to row maps: which rows of which frames make up a strip.

With s the transport sign, p the pitch, e the encoder and a the transport angle, image row r of a frame lies on web row
e cos a / p + s r, and its column c on web column c + s (r - middle row) tan a. Row 0 is the first row of the first
frame. Web rows lie along those of the image: row (y cos a + x sin a) / p holds the web at (x, y). One mechanism serves
steady motion, ramps, stop-and-go and a still object. An encoder that goes back by more than a frame has been restarted:
rows count on, and what passed meanwhile is not known.

Where frames show that the web moves further than the encoder says, or less far, they are laid by what they show
(`EncoderDrift`): web rows, and the millimetres derived from them, are then the image's own, at the pitch of the
calibration, and no longer the encoder's.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.assembly.drift import MOVES_PX, EncoderDrift
from edge.assembly.row_map import RowMap, View, Views
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.light_witness import LightWitness
from edge.core.types import F32, U8, Frame, Pixels


@dataclass
class FrameCounts:
    """What became of the frames: `lost` by gaps of the device counter, `repeated` delivered twice; not used because
    `incomplete`, without a `position`, `dark` (its lamp did not fire) or lit by an `other_light` than it claims.
    `compared` with an earlier one of their light to tell whether the encoder is right, and those of them where it was
    `unobservable`: the web is too smooth, the two show no common web, or there is no flat field.
    `encoder_restarts`: how often the encoder went back by more than a frame.
    """

    received: int = 0
    lost: int = 0
    repeated: int = 0
    incomplete: int = 0
    no_position: int = 0
    dark: int = 0
    other_light: int = 0
    compared: int = 0
    unobservable: int = 0
    encoder_restarts: int = 0

    @property
    def unusable(self) -> int:
        """Frames that arrived and could not be used."""
        return self.incomplete + self.no_position + self.dark + self.other_light


@dataclass(frozen=True)
class Registered:
    """What a strip is laid from: `row_map` names the frames by the slots they were kept in; `shift` (n, rows) f64: by
    how many columns each row is moved to the right, NaN where there is none."""

    row_map: RowMap
    shift: NDArray[np.float64]

    @property
    def lights_seen(self) -> U8:
        """As in `Strip`."""
        return np.packbits((self.row_map.slot >= 0).T, axis=1, bitorder="little")


class Registrar:
    """Decides where frames lie on the web, wherever their pixels are, and hands on strips of `strip_rows` rows as soon
    as no frame to come can show any of them better.

    `keep` is given the pixels of each frame that can be used, and the slot to keep them in, over what was there: slots
    are few, and used again once no row to come is taken from them. A strip must be laid before the next frame is
    pushed. `pitch_mm` replaces a calibration's unknown pitch. A frame of another size than the calibration, or of a
    light it does not know, raises CalibrationError.
    """

    def __init__(
        self, calibration: Calibration, strip_rows: int, pitch_mm: float, keep: Callable[[int, Pixels], None]
    ) -> None:
        self.counts = FrameCounts()
        self._calibration = calibration
        self._strip_rows = strip_rows
        self._keep = keep
        angle = math.radians(calibration.transport_angle_deg)
        self._rows_per_mm = calibration.encoder_scale * math.cos(angle) / pitch_mm
        self._columns_per_row = calibration.transport_sign * math.tan(angle)
        self._views = Views(calibration.lights, calibration.height, calibration.transport_sign)
        self._witness = LightWitness(calibration)
        self._first_row = 0 if calibration.transport_sign > 0 else calibration.height - 1
        self._origin_row: float | None = None
        self._scale = 1.0
        self._last_row = -math.inf
        self._next_row = 0
        self._end_row = 0
        self._last_id: int | None = None
        self._slots = 0
        self._free: list[int] = []
        self.dark, self.gain = _correction(calibration)
        self._drift = EncoderDrift(calibration, self.dark, self.gain)

    @property
    def encoder_drift(self) -> EncoderDrift:
        """What the frames say of the encoder."""
        return self._drift

    @property
    def web_rows(self) -> int:
        """Web rows from the first to the last that any frame has reached."""
        return self._end_row

    @property
    def frames_held(self) -> int:
        """Frames kept because a coming strip may take rows from them."""
        return self._slots - len(self._free)

    def recalibrate(self, calibration: Calibration) -> int:
        """Correct what is not laid yet by another calibration, of the same frames and the same way of the web; returns
        the first row that is."""
        self._calibration = calibration
        self._witness = LightWitness(calibration)
        self.dark, self.gain = _correction(calibration)
        self._drift.recalibrate(self.dark, self.gain)
        return self._next_row

    def push(self, frame: Frame) -> Iterator[Registered]:
        """Take a frame; yield the strips it completes."""
        self._check(frame)
        if not self._count(frame):
            return
        view = View(self._web_row(frame), self._slot_of(frame.pixels))
        self._end_row = max(self._end_row, self._views.end_of(view))
        dropped = self._views.add(frame.light, view)
        if dropped is not None:
            self._free.append(dropped.slot)
        while (row_map := self._views.settled(view, self._next_row, self._strip_rows)) is not None:
            yield self._registered(row_map)

    def finish(self) -> Iterator[Registered]:
        """Yield what is left when no frame will come any more."""
        while self._next_row < self._end_row:
            rows = min(self._strip_rows, self._end_row - self._next_row)
            yield self._registered(self._views.decide(self._next_row, rows))

    def _web_row(self, frame: Frame) -> float:
        """Web row of image row 0. Rows count on from where they ended when the encoder starts anew."""
        row = frame.encoder_mm * self._rows_per_mm
        restarted = row < self._last_row - self._calibration.height
        self.counts.encoder_restarts += restarted
        if restarted:
            self._drift.restart()
        comparison = self._drift.push(frame.light, frame.pixels, row)
        self.counts.compared += comparison != "none"
        self.counts.unobservable += comparison == "unobservable"
        if self._origin_row is None or restarted:
            self._scale = self._drift.scale
            self._origin_row = row * self._scale - self._first_row - self._end_row
        elif self._drift.scale != self._scale:
            self._follow(self._drift.scale)
        self._last_row = row
        return row * self._scale - self._origin_row

    def _follow(self, scale: float) -> None:
        """From the last frame on a row of the encoder is `scale` rows of web. Frames still held, where the scale they
        were laid by was far off, are laid anew about the first row to come."""
        assert self._origin_row is not None
        factor = scale / self._scale
        last = self._last_row * self._scale - self._origin_row
        if abs(factor - 1) * self._calibration.height > MOVES_PX:
            about_row = self._next_row + self._first_row
            self._views.stretch(about_row, factor)
            last = about_row + factor * (last - about_row)
            self._end_row = max(self._next_row, self._views.end_row)
        self._scale = scale
        self._origin_row = self._last_row * scale - last

    def _check(self, frame: Frame) -> None:
        expected = (self._calibration.height, self._calibration.width)
        if frame.pixels.shape != expected:
            raise CalibrationError(
                f"calibration is for frames of {expected[1]} x {expected[0]} px, frame {frame.frame_id} has "
                f"{frame.pixels.shape[1]} x {frame.pixels.shape[0]}: use the calibration of this camera"
            )
        if not 0 <= frame.light < self._calibration.lights:
            raise CalibrationError(
                f"frame {frame.frame_id} is of light {frame.light}, the calibration knows {self._calibration.lights}"
            )

    def _count(self, frame: Frame) -> bool:
        """Keep the books; False for a frame that cannot be used."""
        self.counts.received += 1
        if frame.frame_id == self._last_id:
            self.counts.repeated += 1
            return False
        if self._last_id is not None and frame.frame_id > self._last_id:
            self.counts.lost += frame.frame_id - self._last_id - 1
        self._last_id = frame.frame_id
        if not frame.complete:
            self.counts.incomplete += 1
        elif not math.isfinite(frame.encoder_mm):
            self.counts.no_position += 1
        else:
            testimony = self._witness.testify(frame)
            self.counts.dark += testimony == "dark"
            self.counts.other_light += testimony == "other light"
            return testimony == "agrees"
        return False

    def _slot_of(self, pixels: Pixels) -> int:
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
        slot = self._free.pop()
        self._keep(slot, pixels)
        return slot

    def _registered(self, row_map: RowMap) -> Registered:
        self._next_row += row_map.slot.shape[1]
        self._free += [view.slot for view in self._views.release_before(self._next_row)]
        shift = row_map.source_row - (self._calibration.height - 1) / 2
        shift *= self._columns_per_row
        return Registered(row_map, shift)


def _correction(calibration: Calibration) -> tuple[F32, F32]:
    """Dark counts and gain (n, h, w), or (n, 1, 1) without a flat field."""
    if calibration.flat is None or calibration.dark is None:
        gain = np.full((calibration.lights, 1, 1), 1.0 / calibration.white, np.float32)
        return np.zeros_like(gain), gain
    return calibration.dark, 1.0 / (calibration.flat - calibration.dark)
