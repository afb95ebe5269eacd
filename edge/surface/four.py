"""Three and four lights: one pass over a strip, written out in vectors of LANES columns.

What bounds this kernel is memory, so its stores are non-temporal: a plain store first reads the cache line that it is
about to overwrite. Compilers do not make such stores out of loops over scalars; hence the vectors, for any machine,
since LLVM splits them into what it has. Two rows are solved together, so that the matrices, more than the
first cache holds, are read half as often.
"""

from collections.abc import Callable, Sequence
from functools import cache, reduce
from itertools import product
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, prange, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from edge.core.memory import LINE_BYTES, empty_mid_page
from edge.surface.matrices import MIN_ALBEDO, SHADOW, Matrices

LANES = 16
"""Columns solved together: a cache line of float32. Strips must be as wide."""
LIGHTS = 4

_LINES = 36
# Per LANES columns the table holds these rows of LANES values: 4x4 of the row term (how much of each light's q is due
# to where another one stands), 3x4 of the inverse, 4 of the checksum, 4 of the saturation.
_INVERSE, _CHECKSUM, _SATURATION = 16, 28, 32
_ROWS = 2
_MIN_SQUARE, _MAX_SQUARE = MIN_ALBEDO**2, 3e38
# No nnan, no ninf: pixels that are not numbers must come out invalid.
_FAST = ("contract", "nsz", "arcp", "afn")

_FLOAT, _BYTE, _INDEX = ir.FloatType(), ir.IntType(8), ir.IntType(64)
_VECTOR, _BYTES = ir.VectorType(_FLOAT, LANES), ir.VectorType(_BYTE, LANES)


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


class _Vectors:
    """Arithmetic on vectors of LANES values, as LLVM instructions."""

    def __init__(self, context: Any, builder: ir.IRBuilder) -> None:
        self.context, self.ir = context, builder

    def at(self, kind: Any, array: ir.Value, index: ir.Value, vector: ir.Type = _VECTOR) -> ir.Value:
        """The address of `array[index]`, counted through a C-contiguous array."""
        data = self.context.make_array(kind)(self.context, self.ir, array).data
        return self.ir.bitcast(self.ir.gep(data, [index]), vector.as_pointer())

    def all(self, value: Any) -> ir.Value:
        """A number in every lane."""
        if not isinstance(value, ir.Value):
            return ir.Constant(_VECTOR, [float(value)] * LANES)
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        one = self.ir.insert_element(undefined, value, _INDEX(0))
        return self.ir.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    def times(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ir.fmul(a, b, flags=_FAST)

    def minus(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ir.fsub(a, b, flags=_FAST)

    def dot(self, a: Sequence[ir.Value], b: Sequence[ir.Value]) -> ir.Value:
        total = self.times(a[0], b[0])
        for x, y in zip(a[1:], b[1:], strict=True):
            total = self.ir.fadd(self.times(x, y), total, flags=_FAST)
        return total

    def less(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Lanes with a < b; none where one of them is not a number."""
        return self.ir.fcmp_ordered("<", a, b)

    def least(self, values: Sequence[ir.Value]) -> ir.Value:
        return reduce(lambda a, b: self.ir.select(self.less(a, b), a, b), values)

    def greatest(self, values: Sequence[ir.Value]) -> ir.Value:
        return reduce(lambda a, b: self.ir.select(self.less(a, b), b, a), values)

    def inverse_root(self, a: ir.Value) -> ir.Value:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        root = self.ir.module.declare_intrinsic(f"llvm.sqrt.v{LANES}f32", fnty=kind)
        return self.ir.fdiv(self.all(1), self.ir.call(root, [a], fastmath=_FAST), flags=_FAST)


def _solver(streamed: bool) -> Any:
    """The instructions that solve LANES columns of two rows, and store them past the cache where `streamed`."""

    @intrinsic
    def solve(typing, planes, sources, off_centre, table, line, normals, albedo, residual, valid, targets, plane):  # type: ignore[no-untyped-def]
        """`sources`: where q begins in `planes`, row by row, light by light, and `off_centre` in the same order;
        `line`: where the matrices begin; `targets`: where the results of each row begin; `plane`: from one component
        of the normals to the next."""

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
            v, kind = _Vectors(context, builder), signature.args
            lights, rows = range(LIGHTS), range(_ROWS)

            def load(which: int, index: ir.Value) -> ir.Value:
                return builder.load(v.at(kind[which], args[which], index), align=4)

            def lines(first: int) -> list[ir.Value]:
                return [load(3, builder.add(args[4], _INDEX((first + k) * LANES))) for k in lights]

            def store(which: int, index: ir.Value, value: ir.Value) -> None:
                address = v.at(kind[which], args[which], index)
                stored = builder.store(value, address, align=LINE_BYTES if streamed else 4)
                if streamed:
                    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))

            def each(which: int, row: int) -> list[ir.Value]:
                return [builder.extract_value(args[which], row * LIGHTS + k) for k in lights]

            q = [[load(0, source) for source in each(1, row)] for row in rows]
            r = [[v.all(distance) for distance in each(2, row)] for row in rows]
            saturation = lines(_SATURATION)
            good = [v.less(v.times(v.all(SHADOW), v.greatest(q[row])), v.least(q[row])) for row in rows]
            for row, k in product(rows, lights):
                good[row] = builder.and_(good[row], v.less(q[row][k], saturation[k]))

            centred: list[list[ir.Value]] = [[] for _ in rows]
            for k in lights:
                drift = lines(LIGHTS * k)
                for row in rows:
                    centred[row].append(v.minus(q[row][k], v.times(r[row][k], v.dot(drift, q[row]))))
            solution: list[list[ir.Value]] = [[] for _ in rows]
            for part in range(4):
                matrix = lines(_INVERSE + LIGHTS * part)
                for row in rows:
                    solution[row].append(v.dot(matrix, centred[row]))

            for row in rows:
                *b, across = solution[row]
                target = builder.extract_value(args[9], row)
                square = v.dot(b, b)
                solved = builder.and_(v.less(v.all(_MIN_SQUARE), square), v.less(square, v.all(_MAX_SQUARE)))
                scale = v.inverse_root(square)
                for axis, unsolved in enumerate((0, 0, 1)):
                    normal = builder.select(solved, v.times(b[axis], scale), v.all(unsolved))
                    store(5, builder.add(target, builder.mul(_INDEX(axis), args[10])), normal)
                store(6, target, builder.select(solved, v.times(square, scale), v.all(0)))
                store(7, target, builder.select(solved, v.times(across, scale), v.all(np.nan)))
                # A quarter of a cache line: measured, it is better not streamed.
                trusted = builder.zext(builder.and_(solved, good[row]), _BYTES)
                builder.store(trusted, v.at(kind[8], args[8], target, _BYTES), align=1)
            return context.get_dummy_value()

        arguments = (planes, sources, off_centre, table, line, normals, albedo, residual, valid, targets, plane)
        return types.void(*arguments), generate

    return solve


_streamed, _plain = _solver(streamed=True), _solver(streamed=False)


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
    types.float32[:, :, ::1],  # normals
    types.float32[:, ::1],  # albedo
    types.float32[:, ::1],  # residual
    types.uint8[:, ::1],  # valid
)


@cache
def compiled() -> Callable[..., None]:
    """The kernel; compiles, or loads what was compiled."""

    @njit(SIGNATURE, parallel=True, nogil=True, cache=True, error_model="numpy")
    def solve(planes, lights, off_centre, table, start, stop, normals, albedo, residual, valid):  # type: ignore[no-untyped-def]
        width = np.uint64(planes.shape[2])
        plane, out_plane = np.uint64(planes.shape[1]) * width, np.uint64(albedo.size)
        k0, k1 = np.uint64(lights[0]) * plane, np.uint64(lights[1]) * plane
        k2, k3 = np.uint64(lights[2]) * plane, np.uint64(lights[3]) * plane
        starts = np.uint64(normals.ctypes.data | albedo.ctypes.data | residual.ctypes.data)
        streamed = width % _LANES == 0 and starts % _LINE_BYTES == 0
        for pair in prange((stop - start + 1) // _ROWS):
            i = pair * _ROWS
            j = min(i + 1, stop - start - 1)  # the last row of an odd number of them is solved twice
            above, below = np.uint64(start + i) * width, np.uint64(start + j) * width
            ri = off_centre[0, i], off_centre[1, i], off_centre[2, i], off_centre[3, i]
            rj = off_centre[0, j], off_centre[1, j], off_centre[2, j], off_centre[3, j]
            r = ri + rj
            for step in range((width + _LANES - _ONE) // _LANES):
                column = min(step * _LANES, width - _LANES)
                a, b = above + column, below + column
                q = k0 + a, k1 + a, k2 + a, k3 + a, k0 + b, k1 + b, k2 + b, k3 + b
                line, at = step * _STEP, (a, b)
                if streamed:
                    _streamed(planes, q, r, table, line, normals, albedo, residual, valid, at, out_plane)
                else:
                    _plain(planes, q, r, table, line, normals, albedo, residual, valid, at, out_plane)
            if streamed:
                _fence()  # type: ignore[call-arg]

    return solve
