"""Arithmetic on vectors of LANES float32, as LLVM instructions: what the kernel for four lights is written in."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]

LANES = 16
"""Values taken together: a cache line of float32."""

# No nnan, no ninf: pixels that are not numbers must come out invalid.
_FAST = ("contract", "nsz", "arcp", "afn")
_FLOAT = ir.FloatType()
VECTOR, MASK = ir.VectorType(_FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)


class Vectors:
    """Instructions that `ir`, a builder, takes; masks are vectors of one bit a lane."""

    def __init__(self, context: Any, builder: ir.IRBuilder) -> None:
        self.context, self.ir = context, builder

    def at(self, kind: Any, array: ir.Value, index: ir.Value, vector: ir.Type = VECTOR) -> ir.Value:
        """The address of `array[index]`, counted through a C-contiguous array."""
        data = self.context.make_array(kind)(self.context, self.ir, array).data
        return self.ir.bitcast(self.ir.gep(data, [index]), vector.as_pointer())

    def all(self, value: Any) -> ir.Value:
        """A number in every lane."""
        if not isinstance(value, ir.Value):
            return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)
        undefined = ir.Constant(VECTOR, ir.Undefined)
        one = self.ir.insert_element(undefined, value, ir.IntType(64)(0))
        return self.ir.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    def times(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ir.fmul(a, b, flags=_FAST)

    def plus(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ir.fadd(a, b, flags=_FAST)

    def minus(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ir.fsub(a, b, flags=_FAST)

    def over(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ir.fdiv(a, b, flags=_FAST)

    def dot(self, a: Sequence[ir.Value], b: Sequence[ir.Value]) -> ir.Value:
        total = self.times(a[0], b[0])
        for x, y in zip(a[1:], b[1:], strict=True):
            total = self.plus(self.times(x, y), total)
        return total

    def inverse_root(self, a: ir.Value) -> ir.Value:
        kind = ir.FunctionType(VECTOR, [VECTOR])
        root = self.ir.module.declare_intrinsic(f"llvm.sqrt.v{LANES}f32", fnty=kind)
        return self.over(self.all(1), self.ir.call(root, [a], fastmath=_FAST))

    def less(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Lanes with a < b; none where one of them is not a number."""
        return self.ir.fcmp_ordered("<", a, b)

    def at_most(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Lanes with a <= b; none where one of them is not a number."""
        return self.ir.fcmp_ordered("<=", a, b)

    def size(self, a: ir.Value) -> ir.Value:
        """|a|."""
        kind = ir.FunctionType(VECTOR, [VECTOR])
        return self.ir.call(self.ir.module.declare_intrinsic(f"llvm.fabs.v{LANES}f32", fnty=kind), [a])

    def least(self, values: Sequence[ir.Value]) -> ir.Value:
        return reduce(lambda a, b: self.ir.select(self.less(a, b), a, b), values)

    def greatest(self, values: Sequence[ir.Value]) -> ir.Value:
        return reduce(lambda a, b: self.ir.select(self.less(a, b), b, a), values)

    def both(self, *masks: ir.Value) -> ir.Value:
        return reduce(self.ir.and_, masks)

    def either(self, *masks: ir.Value) -> ir.Value:
        return reduce(self.ir.or_, masks)

    def no(self, mask: ir.Value) -> ir.Value:
        return self.ir.xor(mask, ir.Constant(MASK, [1] * LANES))

    def any(self, mask: ir.Value) -> ir.Value:
        """Whether there is such a lane: one bit."""
        return self.ir.icmp_unsigned("!=", self.ir.bitcast(mask, ir.IntType(LANES)), ir.IntType(LANES)(0))
