"""What the web in view of the camera sends back under each light: a ring of fine rows, rendered as the web comes."""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import F32, U8
from edge.simulation.exposure import reflect, shade, shine, survey
from edge.simulation.web import MARGIN, OVERSAMPLE, RenderedWeb

_BAND_ROWS = 64
_FINE_ROWS = _BAND_ROWS * OVERSAMPLE
_STEEP, _HIDING = 0.6, 0.85
"""Parts of the gentlest slope that keeps a light off: from the one on a pixel is done sample by sample, from the other
on it may hide its neighbours."""
_NO_WALL = np.float32(-1e9)


class Response:
    """`rows` (fine rows, n, 3, w) f32, fine row f at f modulo its length: `sent` of the kernels in `exposure`.

    `from_fine_row`: the first that is ever asked for; `view_fine_rows`: the most that are asked for at a time;
    `towards` (n, 3, w): vectors to the lights; `gloss` as from `gloss_tables`; with `cast` walls cast shadows.
    """

    def __init__(
        self, web: RenderedWeb, from_fine_row: int, view_fine_rows: int, towards: F32, gloss: F32, cast: bool
    ) -> None:
        self._web, self._towards, self._cast = web, towards, cast
        self._gloss = gloss.reshape(*gloss.shape[:2], gloss.shape[2] * gloss.shape[3])
        self._gentlest = float((towards[:, 2] / np.maximum(np.hypot(towards[:, 0], towards[:, 1]), 1e-6)).min())
        bands = -(-view_fine_rows // _FINE_ROWS) + 1
        self.rows: F32 = np.empty((bands * _FINE_ROWS, len(towards), 3, web.width_px), np.float32)
        self._next_band = from_fine_row // _FINE_ROWS
        self._fine: tuple[F32, F32] | None = None

    def render(self, to_fine_row: int) -> None:
        """See that `rows` holds the view that ends before a fine row; views never go back."""
        while self._next_band * _FINE_ROWS < to_fine_row:
            self._render_band(self._next_band)
            self._next_band += 1

    def _render_band(self, band: int) -> None:
        self._fine = height, albedo = self._web.fine(band * _BAND_ROWS, _BAND_ROWS, self._fine)
        step_mm = self._web.pitch_mm / OVERSAMPLE
        slot = band * _FINE_ROWS % len(self.rows)
        sent = self.rows[slot : slot + _FINE_ROWS]
        reflect(sent, height, albedo, step_mm)
        if self._gloss.shape[1]:
            shine(sent, self._gloss)
        doubtful, steep, ceiling = self._doubtful(height, step_mm)
        shade(sent, doubtful, steep, ceiling, height, albedo, step_mm, self._towards, self._gentlest, self._gloss)

    def _doubtful(self, height: F32, step_mm: float) -> tuple[NDArray[np.int64], U8, F32]:
        """Flat indices of pixels that a light may not reach, which pixels are steep, and the walls' height."""
        shape = height.shape[0] // OVERSAMPLE, height.shape[1] // OVERSAMPLE
        steep, high = np.empty(shape, np.uint8), np.empty(shape, np.float32)
        survey(steep, high, height, _STEEP * self._gentlest, _HIDING * self._gentlest, step_mm)
        margin = MARGIN // OVERSAMPLE
        inner = (slice(margin, -margin), slice(margin, -margin))
        if not self._cast:
            return np.flatnonzero(steep[inner]), steep[inner], np.full_like(high[inner], _NO_WALL)
        around = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
        near = np.asarray(cv2.dilate(steep, around) == 2)[inner]
        ceiling = np.asarray(cv2.dilate(high, around)[inner], np.float32)
        return np.flatnonzero(near | (steep[inner] > 0)), steep[inner], ceiling
