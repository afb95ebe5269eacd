"""How much further the web moves than the encoder says: slip, a worn wheel, a wrong scale.

Two frames of one light that show common web tell it: relief and albedo look alike in both, so the shift that brings
them to cover themselves is the way of the web. Estimated is one number for all lights, the scale error, because what
is wrong with the wheel is wrong for every frame; a Kalman filter (1960) with the travel as its time follows it. Where
the web is too smooth to tell, the last scale is held.
"""

import math
from dataclasses import dataclass
from typing import Literal

from edge.assembly.overlap import Bands
from edge.core.calibration import Calibration
from edge.core.types import F32, Pixels

MAX_SCALE_ERROR = 0.01
"""An encoder that is off by more does not drift but counts something else: told, not followed."""
_SD_AT_FIRST = 0.005
_SD_PER_ROOT_ROW = 1.4e-5
"""By how much the scale error wanders: 6e-4 within 100 mm of 0.05 mm rows."""
_ENCODER_SD_PX = 0.05
"""By how much an encoder's own count scatters: what is no more is not followed."""
_MAX_SD_PX = 0.25
_WORTH_TELLING = 0.002
MOVES_PX = 0.1
"""A scale error that moves rows by less within the height of a frame is none: rows stay on whole pixels."""
_SURE = 4.0
_GATE = 4.0
"""Standard deviations: beyond the one an error is sure, beyond the other a comparison contradicts what is known."""
_MOST_SEARCH_ROWS = 8
_LEAST_TRAVEL = 1 / 4
"""Of a frame's height: over less, the error of a shift is too large a part of the way."""

Comparison = Literal["none", "told", "unobservable"]


@dataclass(frozen=True)
class _Seen:
    """A frame that the next of its light is compared with: its encoder in rows, its sample, the lap of its columns."""

    light: int
    row: float
    sample: F32
    lap: int


class EncoderDrift:
    """Follows the scale error of the encoder from frames as they come.

    `error` is what the web moves beyond the encoder, as a part, `error_sd` its standard deviation; `scale` the rows of
    web to a row of the encoder that frames are to be laid by: exactly 1 unless the error is sure and moves rows.
    `dark`, `gain` (n, h, w) correct the frames; where they are alike for all pixels nothing can be told: what lamps
    and lens leave stands still while the web moves.
    """

    def __init__(self, calibration: Calibration, dark: F32, gain: F32) -> None:
        self.scale = 1.0
        self.error, self.error_sd = 0.0, _SD_AT_FIRST
        self._height, self._sign = calibration.height, calibration.transport_sign
        self._least_error = MOVES_PX / calibration.height
        self._columns_per_row = math.tan(math.radians(calibration.transport_angle_deg))
        self._dark, self._gain = dark, gain
        self._bands = Bands(calibration.width)
        self._able = dark.shape[1] > 1 and self._bands.count > 0
        self._before: _Seen | None = None
        self._memory = [self._bands.empty(calibration.height) for _ in range(2)]
        self._last_row = 0.0

    @property
    def is_off(self) -> bool:
        """Whether the error is for sure beyond what a person should know of: 0.2 %."""
        return abs(self.error) - _SURE * self.error_sd > _WORTH_TELLING

    @property
    def in_words(self) -> str:
        """The error for a person: sign and size, and what to do."""
        way = "further" if self.error > 0 else "less far"
        followed = "too much to be followed"
        if abs(self.error) < MAX_SCALE_ERROR:
            followed = "rows are laid by what the frames show"
        return (
            f"the web moves {100 * abs(self.error):.2f} % {way} than the encoder says, "
            f"{self.error * self._height:+.1f} px over the height of a frame, {followed}: check the encoder's wheel, "
            "then calibrate the scale"
        )

    def push(self, light: int, pixels: Pixels, row: float) -> Comparison:
        """Look at a frame (h, w) of a light at `row` of the encoder."""
        travel = abs(row - self._last_row)
        self._last_row = row
        self.error_sd = min(_SD_AT_FIRST, math.sqrt(self.error_sd**2 + _SD_PER_ROOT_ROW**2 * travel))
        before = self._before
        travel = math.inf if before is None else row - before.row
        if before is None or travel < 0 or (travel >= self._height and light != before.light):
            self._before = self._sampled(light, pixels, row)
            return "none"
        if light != before.light or travel < _LEAST_TRAVEL * self._height:
            return "none"
        self._before = self._sampled(light, pixels, row)
        return "told" if self._measured(before, self._before) else "unobservable"

    def restart(self) -> None:
        """The encoder has started anew: nobody knows how far frames so far lie from those to come."""
        self._before = None

    def recalibrate(self, dark: F32, gain: F32) -> None:
        """Correct frames by these from now on. What was corrected otherwise is compared with none of them."""
        self._dark, self._gain = dark, gain
        self._before = None

    def _sampled(self, light: int, pixels: Pixels, row: float) -> _Seen:
        """Into the memory of the frame before the last one."""
        self._memory.reverse()
        sample = self._memory[0]
        lap, offset_px = divmod(round(self._columns_per_row * row), self._bands.room_px + 1)
        if self._able:
            self._bands.take(sample, pixels, self._dark[light], self._gain[light], offset_px)
        return _Seen(light, row, sample, lap)

    def _measured(self, before: _Seen, now: _Seen) -> bool:
        if not self._able or before.lap != now.lap:
            return False
        travel = now.row - before.row
        upper, lower = (before, now) if self._sign > 0 else (now, before)
        search = min(_MOST_SEARCH_ROWS, math.ceil(max(0.0, 3 * self.error_sd * travel - 0.5)))
        shift, sd_px = self._bands.shift(upper.sample, lower.sample, travel * (1 + self.error), search)
        if sd_px > _MAX_SD_PX:
            return False
        self._update(shift / travel - 1, (sd_px**2 + _ENCODER_SD_PX**2) / travel**2)
        return True

    def _update(self, error: float, variance: float) -> None:
        """One step of the filter. What cannot be is not believed before the next frame says so too."""
        known, surprise = self.error_sd**2, error - self.error
        if surprise**2 > _GATE**2 * (known + variance):
            self.error_sd = min(_SD_AT_FIRST, math.sqrt(known + surprise**2))
            return
        gain = known / (known + variance)
        self.error += gain * surprise
        self.error_sd = math.sqrt((1 - gain) * known)
        if max(self._least_error, _SURE * self.error_sd) < abs(self.error) < MAX_SCALE_ERROR:
            self.scale = 1 + self.error
        elif abs(self.error) < self._least_error:
            self.scale = 1.0
