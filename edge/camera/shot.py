"""One exposure as the camera delivered it, before anybody has decided which light it was lit by."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge.core.blocks import block_means
from edge.core.types import Pixels

UNKNOWN = -1
"""What a camera does not say: `active_set`, `line_status`, `encoder_count`."""


@dataclass(frozen=True, eq=False)
class Shot:
    """`pixels` (h, w) u8 or u16; `frame_id` the device's counter (a gap means lost frames); `exposed_ns` on this
    computer's monotonic clock; `encoder_count` at mid-exposure; `exposure_us` and `gain_db` as the camera says it used
    them, NaN where it does not; `active_set` of its sequencer; `line_status` its lines as a bit mask, sampled during
    exposure; `complete` False where the transport lost part of the image.
    """

    pixels: Pixels
    frame_id: int
    exposed_ns: int
    encoder_count: int = UNKNOWN
    exposure_us: float = float("nan")
    gain_db: float = float("nan")
    active_set: int = UNKNOWN
    line_status: int = UNKNOWN
    complete: bool = True

    @cached_property
    def block_means(self) -> NDArray[np.float64]:
        """As in `Frame`."""
        return block_means(self.pixels)
