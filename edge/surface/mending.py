"""What four lights say of LANES pixels, and the rules of `fallback` for those that one of them misled, in vectors."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]

from edge.surface.fallback import ATTACHED, FACING, MIN_SHARE, OPPOSITE
from edge.surface.matrices import MIN_ALBEDO, SHADOW
from edge.surface.vectors import Vectors

_MAX_SQUARE = 3e38


class Row(NamedTuple):
    """LANES pixels of a row: `b` (3) with its `square` and `scale`, one over its length; masks of where it is `solved`,
    where its residual is `beyond` the tolerance, and where it is to be `trusted`."""

    q: Sequence[ir.Value]
    b: Sequence[ir.Value]
    across: ir.Value
    square: ir.Value
    scale: ir.Value
    residual: ir.Value
    solved: ir.Value
    beyond: ir.Value
    trusted: ir.Value


def row_of(v: Vectors, q: Sequence[ir.Value], solution: Sequence[ir.Value], good: ir.Value, tolerance: ir.Value) -> Row:
    *b, across = solution
    square = v.dot(b, b)
    scale, solved = v.inverse_root(square), _solvable(v, square)
    residual = v.times(across, scale)
    beyond = v.less(tolerance, v.size(residual))
    return Row(q, b, across, square, scale, residual, solved, beyond, v.both(solved, good, v.no(beyond)))


def mended(
    v: Vectors,
    four: Row,
    solution: Callable[[list[ir.Value]], list[ir.Value]],
    inverse: Sequence[Sequence[ir.Value]],
    checksum: Sequence[ir.Value],
    saturation: Sequence[ir.Value],
    usual: ir.Value,
    spread: ir.Value,
) -> Row:
    """The row with pixels that cannot be trusted solved without one light, where those can: `fallback.without_one`.

    `solution`: b and the checksum of another q of this row; `usual`, `spread`: of the albedo.
    """
    q, select, lights = four.q, v.ir.select, range(4)
    floor = v.times(v.all(SHADOW), v.greatest(q))
    dark = [v.no(v.less(floor, q[k])) for k in lights]
    saturated = [v.no(v.less(q[k], saturation[k])) for k in lights]
    named = [v.either(dark[k], saturated[k]) for k in lights]
    any_named = v.either(*named)
    several_named = v.either(*(v.both(named[k], v.either(*named[:k])) for k in lights[1:]))
    spared = [v.less(v.all(MIN_SHARE**2), v.times(c, c)) for c in checksum]
    weight = [select(spared[k], v.over(v.all(1), checksum[k]), v.all(np.nan)) for k in lights]
    bright = [v.less(v.all(0), v.times(four.across, weight[k])) for k in lights]

    keys = [select(select(any_named, named[k], bright[k]), q[k], v.all(-np.inf)) for k in lights]
    at = [
        v.both(*(v.less(keys[j], keys[k]) if j < k else v.no(v.less(keys[k], keys[j])) for j in lights if j != k))
        for k in lights
    ]

    def its(values: Sequence[ir.Value]) -> ir.Value:
        chosen = values[0]
        for k in lights[1:]:
            chosen = select(at[k], values[k], chosen)
        return chosen

    share, column = its(weight), [its(row) for row in inverse]
    excess = v.times(four.across, share)
    *b, across = solution([select(at[k], v.minus(q[k], excess), q[k]) for k in lights])
    rest = v.times(across, share)
    excess = v.plus(excess, rest)
    b = [v.minus(part, v.times(of_light, rest)) for part, of_light in zip(b, column, strict=True)]
    own, corrected = its(q), [select(at[k], v.minus(q[k], excess), q[k]) for k in lights]

    square = v.dot(b, b)
    scale = v.inverse_root(square)
    albedo = v.times(square, scale)
    faces = v.at_most(v.greatest(corrected), v.plus(v.minus(own, excess), v.times(v.all(FACING), albedo)))
    weakest = v.least([select(bright[k], q[k], v.all(np.inf)) for k in lights])
    lit = v.times(v.plus(weakest, v.times(v.all(2), excess)), albedo)
    told = v.both(
        v.less(v.times(v.all(OPPOSITE), albedo), weakest), v.less(v.times(v.all(ATTACHED), v.times(usual, usual)), lit)
    )
    glint = v.both(faces, v.either(its(saturated), v.both(its(bright), four.beyond, told)))
    turned_away = v.at_most(v.all(0), excess)
    fits = v.both(v.less(albedo, v.plus(usual, spread)), v.either(turned_away, v.less(v.minus(usual, spread), albedo)))
    shadow = v.both(its(dark), v.either(v.no(four.beyond), fits))
    believed = select(v.both(any_named, v.no(its(saturated))), shadow, glint)
    instead = v.both(four.solved, v.no(four.trusted), believed, v.no(several_named), _solvable(v, square))
    return four._replace(
        b=[select(instead, new, old) for new, old in zip(b, four.b, strict=True)],
        square=select(instead, square, four.square),
        scale=select(instead, scale, four.scale),
        trusted=v.either(four.trusted, instead),
    )


def _solvable(v: Vectors, square: ir.Value) -> ir.Value:
    return v.both(v.less(v.all(MIN_ALBEDO**2), square), v.less(square, v.all(_MAX_SQUARE)))
