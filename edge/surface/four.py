"""Three and four lights: one pass over a strip, written out in vectors of LANES columns.

What bounds this kernel is memory, so its stores are non-temporal: a plain store first reads the cache line that it is
about to overwrite. Compilers do not make such stores out of loops over scalars; hence the vectors, for any machine,
since LLVM splits them into what it has. Two rows are solved together, so that the matrices, more than the
first cache holds, are read half as often. Where a pixel cannot be trusted, which is seldom, its vector is solved once
more, mending.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from edge.core.memory import LINE_BYTES, empty_mid_page
from edge.surface import fallback, matrices, mending, vectors
from edge.surface.matrices import SHADOW, Matrices
from edge.surface.mending import Row, mended, row_of
from edge.surface.vectors import LANES, VECTOR, Vectors

LIGHTS = 4

_LINES = 36
# Per LANES columns the table holds these rows of LANES values: 4x4 of the row term (how much of each light's q is due
# to where another one stands), 3x4 of the inverse, 4 of the checksum, 4 of the saturation.
_INVERSE, _CHECKSUM, _SATURATION = 16, 28, 32
_ROWS, _LIMITS = 2, 3
_INDEX, _BYTES = ir.IntType(64), ir.VectorType(ir.IntType(8), LANES)


def table(m: Matrices) -> NDArray[np.float32]:
    """The matrices in the order they are read, LANES columns after LANES columns, starting on a cache line.

    The last LANES columns may overlap those before. Three lights become four: the first comes twice, the second time
    with no weight and a checksum that is no number.
    """
    count, _, width = m.g.shape
    lines = np.zeros((_LINES, width))
    row_term = lines[:_INVERSE].reshape(LIGHTS, LIGHTS, width)
    row_term[:count, :count] = np.einsum("kiw,ijw->kjw", m.g_per_row, m.inverse)
    lines[_INVERSE:_CHECKSUM].reshape(3, LIGHTS, width)[:, :count] = m.inverse
    lines[_CHECKSUM:_SATURATION] = m.checksum if count == LIGHTS else np.nan
    lines[_SATURATION:][:count] = m.saturation
    lines[_SATURATION:][count:] = np.inf
    columns = np.minimum(np.arange(0, width, LANES), width - LANES)[:, None] + np.arange(LANES)
    table = empty_mid_page((lines[:, columns].size,), np.float32)
    table[:] = lines[:, columns].transpose(1, 0, 2).ravel()
    return table


def _solver(streamed: bool, mending: bool) -> Any:
    """The instructions that solve LANES columns of two rows, and store them, past the cache where `streamed`.

    Those that do not mend store nothing, and answer True, where a pixel cannot be trusted.
    """

    @intrinsic
    def solve(typing, sources, q, off_centre, line, limits, results, at, plane):  # type: ignore[no-untyped-def]
        """`sources`: planes and table; `q`: where it begins in the planes, row by row, light by light, and `off_centre`
        in the same order; `line`: where the matrices begin; `limits`: row by row; `results`: normals, albedo,
        residual and valid; `at`: where each row of them begins; `plane`: from one component of the normals to the
        next."""

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            v, lights, rows = Vectors(context, builder), range(LIGHTS), range(_ROWS)

            def address(group: int, array: int, index: ir.Value, vector: ir.Type = VECTOR) -> ir.Value:
                return v.at(
                    signature.args[group].types[array], builder.extract_value(args[group], array), index, vector
                )

            def load(array: int, index: ir.Value) -> ir.Value:
                return builder.load(address(0, array, index), align=4)

            def lines(first: int) -> list[ir.Value]:
                return [load(1, builder.add(args[3], _INDEX((first + k) * LANES))) for k in lights]

            def store(array: int, index: ir.Value, value: ir.Value) -> None:
                stored = builder.store(value, address(5, array, index), align=LINE_BYTES if streamed else 4)
                if streamed:
                    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))

            def of_lights(which: int, row: int) -> list[ir.Value]:
                return [builder.extract_value(args[which], row * LIGHTS + k) for k in lights]

            def solutions(q: list[list[ir.Value]], r: list[list[ir.Value]]) -> list[list[ir.Value]]:
                """b and the checksum, row by row."""
                centred: list[list[ir.Value]] = [[] for _ in q]
                for k in lights:
                    drift = lines(LIGHTS * k)
                    for row, values in enumerate(q):
                        centred[row].append(v.minus(values[k], v.times(r[row][k], v.dot(drift, values))))
                found: list[list[ir.Value]] = [[] for _ in q]
                for part in range(4):
                    matrix = lines(_INVERSE + LIGHTS * part)
                    for row, values in enumerate(centred):
                        found[row].append(v.dot(matrix, values))
                return found

            def limit(which: int, row: int) -> ir.Value:
                return v.all(builder.extract_value(args[4], row * _LIMITS + which))

            def mended_row(number: int) -> Row:
                inverse = [lines(_INVERSE + LIGHTS * part) for part in range(3)]

                def again(q: list[ir.Value]) -> list[ir.Value]:
                    return solutions([q], [r[number]])[0]

                checksum, albedo = lines(_CHECKSUM), [limit(which, number) for which in (1, 2)]
                return mended(v, found[number], again, inverse, checksum, saturation, *albedo)

            def stored(found: Sequence[Row]) -> None:
                for number, row in enumerate(found):
                    target = builder.extract_value(args[6], number)
                    for axis, unsolved in enumerate((0, 0, 1)):
                        normal = builder.select(row.solved, v.times(row.b[axis], row.scale), v.all(unsolved))
                        store(0, builder.add(target, builder.mul(_INDEX(axis), args[7])), normal)
                    store(1, target, builder.select(row.solved, v.times(row.square, row.scale), v.all(0)))
                    store(2, target, builder.select(row.solved, row.residual, v.all(np.nan)))
                    # A quarter of a cache line: measured, it is better not streamed.
                    builder.store(builder.zext(row.trusted, _BYTES), address(5, 3, target, _BYTES), align=1)

            q = [[load(0, source) for source in of_lights(1, row)] for row in rows]
            r = [[v.all(distance) for distance in of_lights(2, row)] for row in rows]
            saturation = lines(_SATURATION)
            good = [v.less(v.times(v.all(SHADOW), v.greatest(q[row])), v.least(q[row])) for row in rows]
            for row, k in product(rows, lights):
                good[row] = v.both(good[row], v.less(q[row][k], saturation[k]))
            tolerated = [limit(0, row) for row in rows]
            found = [row_of(v, *each) for each in zip(q, solutions(q, r), good, tolerated, strict=True)]
            if mending:
                stored([mended_row(row) for row in rows])
                return context.get_constant(types.boolean, False)
            doubtful = v.any(v.either(*(v.both(row.solved, v.no(row.trusted)) for row in found)))
            with builder.if_then(builder.not_(doubtful), likely=True):
                stored(found)
            return doubtful

        return types.boolean(sources, q, off_centre, line, limits, results, at, plane), generate

    return solve


_streamed, _plain = _solver(streamed=True, mending=False), _solver(streamed=False, mending=False)
_streamed_mending, _plain_mending = _solver(streamed=True, mending=True), _solver(streamed=False, mending=True)


@njit(nogil=True, error_model="numpy")
def _mend(streamed, sources, q, r, line, limits, results, at, plane):  # type: ignore[no-untyped-def]
    """A function of its own, too long for a compiler to put it in its place: there, what it needs would drive what the
    usual path needs from the registers."""
    if streamed:
        _streamed_mending(sources, q, r, line, limits, results, at, plane)
    else:
        _plain_mending(sources, q, r, line, limits, results, at, plane)


@intrinsic
def _fence(typing):  # type: ignore[no-untyped-def]
    """What was streamed before is seen by whoever sees what is stored after."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


_LANES, _STEP, _ONE, _LINE_BYTES = np.uint64(LANES), np.uint64(_LINES * LANES), np.uint64(1), np.uint64(LINE_BYTES)


def _read_only(kind: Any, dimensions: int) -> Any:
    return types.Array(kind, dimensions, "C", readonly=True)


SIGNATURE = types.void(
    _read_only(types.float32, 3),  # planes
    _read_only(types.intp, 1),  # lights
    _read_only(types.float32, 2),  # rows_off_centre
    _read_only(types.float32, 1),  # table
    types.intp,  # start
    types.intp,  # stop
    _read_only(types.float32, 2),  # limits; n lights: not heeded
    types.float32[:, :, ::1],  # normals
    types.float32[:, ::1],  # albedo
    types.float32[:, ::1],  # residual
    types.uint8[:, ::1],  # valid
)


def _made_of() -> str:
    """Digest of the other modules that the instructions come from. Numba's cache looks into this one alone, but asks
    for the values a kernel closes over: so a kernel of another version is never loaded."""
    sources = [inspect.getsource(module) for module in (fallback, matrices, mending, vectors)]
    return hashlib.sha256("".join(sources).encode()).hexdigest()


@cache
def compiled() -> Callable[..., None]:
    """The kernel; compiles, or loads what was compiled."""
    made_of = _made_of()

    @njit(SIGNATURE, parallel=True, nogil=True, cache=True, error_model="numpy")
    def solve(planes, lights, off_centre, table, start, stop, limits, normals, albedo, residual, valid):  # type: ignore[no-untyped-def]
        _ = made_of
        width = np.uint64(planes.shape[2])
        plane, out_plane = np.uint64(planes.shape[1]) * width, np.uint64(albedo.size)
        k0, k1 = np.uint64(lights[0]) * plane, np.uint64(lights[1]) * plane
        k2, k3 = np.uint64(lights[2]) * plane, np.uint64(lights[3]) * plane
        starts = np.uint64(normals.ctypes.data | albedo.ctypes.data | residual.ctypes.data)
        streamed = width % _LANES == 0 and starts % _LINE_BYTES == 0
        sources, results = (planes, table), (normals, albedo, residual, valid)
        for pair in prange((stop - start + 1) // _ROWS):
            i = pair * _ROWS
            j = min(i + 1, stop - start - 1)  # the last row of an odd number of them is solved twice
            above, below = np.uint64(start + i) * width, np.uint64(start + j) * width
            ri = off_centre[0, i], off_centre[1, i], off_centre[2, i], off_centre[3, i]
            rj = off_centre[0, j], off_centre[1, j], off_centre[2, j], off_centre[3, j]
            r = ri + rj
            known = limits[0, i], limits[1, i], limits[2, i], limits[0, j], limits[1, j], limits[2, j]
            for step in range((width + _LANES - _ONE) // _LANES):
                column = min(step * _LANES, width - _LANES)
                a, b = above + column, below + column
                q = k0 + a, k1 + a, k2 + a, k3 + a, k0 + b, k1 + b, k2 + b, k3 + b
                line, at = step * _STEP, (a, b)
                if streamed:
                    doubtful = _streamed(sources, q, r, line, known, results, at, out_plane)
                else:
                    doubtful = _plain(sources, q, r, line, known, results, at, out_plane)
                if doubtful:
                    _mend(streamed, sources, q, r, line, known, results, at, out_plane)
            if streamed:
                _fence()  # type: ignore[call-arg]

    return solve
