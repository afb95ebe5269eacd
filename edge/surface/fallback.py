"""Which of four lights misled a pixel, and whether three lights may be trusted without it: the rules, in NumPy.

Four lights leave one number to check them by, the checksum s = c . q, zero where no light was affected. If light k
alone was, it is too bright by its excess t = s / c_k, and without that all four say what the other three do: no other
matrix is needed. Each of the four explains s alike, so s cannot name the light. What can:

- Saturation and darkness name it. Two named lights leave nothing to solve from.
- A glint needs a pixel that faces its light: of the lights that s allows to be too bright it is the brightest, and
  without its excess it still is, or nearly. That also tells a glint from two. Where the light on the other side hardly
  reaches, an attached shadow there looks the same: a light sends back nothing, not less, where the others foretell
  less. Neither is believed where that light is weak, or the excess small and the albedo low.
- A light that is dark, though what the others say and it do not disagree, is in shadow by the pixel's own slope. Where
  they disagree, it is believed to be in shadow if the albedo that the others give is usual. If they foretell darkness
  or more, the slope turned the pixel away, and the albedo must only not be too high: then another light's glint made
  this one look dark. If they do not, something kept it off, in a crack often more than one light, and the albedo must
  not be too low either.

What remains is not trusted. Rendered webs and synthetic glints and shadows set the limits, and show what is reached
(tests/test_surface_robust.py). One number cannot do more: a shadow over a part of a pixel is named by nothing, and its
small s fits a small glint as well, so its error stays that of four lights; and two faults can cancel in s, which
notices nine in ten pairs on glossy and on matt webs, half to three quarters on webs between, where most pairs that it
notices look like one glint. Who knew the light would still leave 0.4 of the error of partial shadows: half of them
lie within the tolerance.

Neighbours would tell more, and were tried on twenty dense webs of 77 x 13 mm. Not to trust what touches an untrusted
pixel notices 89, 45 and 98 % of pairs on glossy, middling and matt webs instead of 48, 18 and 80 %, and gives up 45 %
of the glossy glints and nine in ten of the dark shadows that three lights solve well. Not to trust what touches a
doubtful pixel, mended or not, notices 84 % on middling webs and leaves next to nothing mended. Beside no glint within
two pixels, a weak light whose loss leaves the usual albedo is in attached shadow: without it, the error of attached
shadows falls from that of four lights to 0.67 of it, and no other rises by more than a hundredth. That would take rows
beyond the strip and a second pass on every kernel for one pixel in five thousand of a web full of defects: it is not
done.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.surface.matrices import F64, MIN_ALBEDO, SHADOW

Bools = NDArray[np.bool_]

MIN_SHARE = 0.1
"""Least |c_k| of a light that can be spared: below it the other three lie almost in one plane."""
FACING = 0.1
"""Part of the albedo by which a light may fall short of the brightest, once its glint is taken off."""
OPPOSITE = 0.4
"""Part of the albedo that must come from every light of the glint's sign for it to be told from attached shadow."""
ATTACHED = 0.77
"""Least of (the weakest such light + 2 x the excess) x albedo, in usual albedos, for it to be told from one in part."""


def solution(inverse: F64, g_per_row: F64, q: F64, r: F64) -> tuple[F64, F64]:
    """rho n (3, ...) of q (m, ...), and q without the row term. Axes after the first broadcast.

    `inverse` (3, m, ...); `g_per_row` (m, 3, ...); `r` (m, ...): image rows from the centre.
    """
    b = np.einsum("ik...,k...->i...", inverse, q)
    centred = q - r * np.einsum("ki...,i...->k...", g_per_row, b)
    return np.einsum("ik...,k...->i...", inverse, centred), centred


@dataclass(frozen=True)
class Doubtful:
    """Pixels (n) whose four lights cannot all be trusted, and the matrices of their columns.

    `q`, `r`, `checksum`, `saturation` (4, n); `inverse` (3, 4, n); `g_per_row` (4, 3, n); `s` (n,): checksum of q
    without the row term; `beyond` (n,): whether it is beyond the tolerance; `usual`, `spread` (n,): of the albedo.
    """

    q: F64
    r: F64
    inverse: F64
    g_per_row: F64
    checksum: F64
    saturation: F64
    s: F64
    beyond: Bools
    usual: F64
    spread: F64


def without_one(pixels: Doubtful) -> tuple[F64, Bools]:
    """rho n (3, n) by the three lights that did not mislead, and where it may be trusted (n,)."""
    q, count = pixels.q, pixels.q.shape[1]
    c = np.where(np.abs(pixels.checksum) > MIN_SHARE, pixels.checksum, np.nan)
    dark, saturated = ~(q > SHADOW * q.max(axis=0)), ~(q < pixels.saturation)
    named, bright = saturated | dark, pixels.s / c > 0
    suspects = np.where(named.any(axis=0), named, bright)
    at = np.where(suspects, q, -np.inf).argmax(axis=0), np.arange(count)

    # Twice: the row term was taken off with what the light that misled had said.
    corrected, column = q.copy(), pixels.inverse[:, at[0], at[1]]
    corrected[at] -= pixels.s / c[at]
    b, centred = solution(pixels.inverse, pixels.g_per_row, corrected, pixels.r)
    rest = (pixels.checksum * centred).sum(axis=0) / c[at]
    corrected[at] -= rest
    b = b - column * rest

    albedo = np.linalg.norm(b, axis=0)
    faces = corrected.max(axis=0) <= corrected[at] + FACING * albedo
    weakest, excess = np.where(bright, q, np.inf).min(axis=0), q[at] - corrected[at]
    told = (weakest > OPPOSITE * albedo) & ((weakest + 2 * excess) * albedo > ATTACHED * pixels.usual**2)
    glint = faces & (saturated[at] | (bright[at] & pixels.beyond & told))
    turned_away = corrected[at] <= q[at]
    fits = albedo < pixels.usual + pixels.spread
    fits &= turned_away | (albedo > pixels.usual - pixels.spread)
    shadow = dark[at] & (~pixels.beyond | fits)
    believed = np.where(named.any(axis=0) & ~saturated[at], shadow, glint)
    return b, believed & (named.sum(axis=0) <= 1) & np.isfinite(albedo) & (albedo > MIN_ALBEDO)
