"""Vectors of one cache line (8 float64 or 16 float32) inside compiled kernels.

A compiler vectorises a loop, but it does not keep a block of results in registers over an outer loop: the
step that makes a matrix product fast. With these few operations a kernel says it itself; on a machine with
narrower registers a vector is two or four of them. ::

    acc = zeros(y)
    for k in range(n):
        acc = multiply_add(splat(y, c[k]), load(b, k * LANES), acc)
    store(y, 0, acc)

Vectors and numbers may also be written with + − * /, as ``a * x + 1.0``: then how products and sums are
joined is the compiler's to choose, as for numbers.
"""

from __future__ import annotations

import operator

from numba import types
from numba.extending import lower_builtin, type_callable

from kalmandp.engines.cpu.private import cgutils, intrinsic, ir, models, register_model

#: Bytes of a vector.
WIDTH = 64


class Vector(types.Type):
    """The type of a vector of numbers of type ``element``."""

    def __init__(self, element: types.Float):
        self.element = element
        self.lanes = 8 * WIDTH // element.bitwidth
        super().__init__(name=f"Vector({element} x {self.lanes})")

    @property
    def llvm(self) -> ir.VectorType:
        element = ir.DoubleType() if self.element.bitwidth == 64 else ir.FloatType()
        return ir.VectorType(element, self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.llvm)


def _operator(function, instruction):
    """Let compiled code write ``function`` between vectors, or a vector and a number."""

    @type_callable(function)
    def _typed(context):
        def result(a, b):
            if isinstance(a, Vector) and (a == b or isinstance(b, types.Float)):
                return a
            return b if isinstance(b, Vector) and isinstance(a, types.Float) else None

        return result

    def codegen(context, builder, signature, args):
        vector = signature.return_type

        def whole(value, kind):
            if kind == vector:
                return value
            return _everywhere(builder, vector, context.cast(builder, value, kind, vector.element))

        return getattr(builder, instruction)(*map(whole, args, signature.args))

    for kinds in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(function, *kinds)(codegen)


def _everywhere(builder, vector, number):
    """A vector with one number in every place."""
    one = builder.insert_element(ir.Constant(vector.llvm, ir.Undefined), number, ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), None)
    return builder.shuffle_vector(one, one, places)


for _function, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _operator(_function, _instruction)


def _address(context, builder, array_type, array, start, vector):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.llvm.as_pointer())


@intrinsic
def load(typingctx, array, start):
    """The numbers array[start : start + lanes] of a contiguous array."""
    vector = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], args[0], args[1], vector)
        return builder.load(address, align=array.dtype.bitwidth // 8)

    return vector(array, types.intp), codegen


@intrinsic
def store(typingctx, array, start, value):
    """array[start : start + lanes] = value."""

    def codegen(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], args[0], args[1], value)
        builder.store(args[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def add_to(typingctx, array, start, value):
    """array[start : start + lanes] += value, in the precision of the array."""

    def codegen(context, builder, signature, args):
        wide = Vector(array.dtype).llvm.element
        kind = ir.VectorType(wide, value.lanes)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), kind.as_pointer())
        align = array.dtype.bitwidth // 8
        number = args[2] if wide == value.llvm.element else builder.fpext(args[2], kind)
        builder.store(builder.fadd(builder.load(address, align=align), number), address, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def fetch(typingctx, array, start):
    """Prefetch the cache line that array[start] is in, without waiting for it."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [args[1]]), byte)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]), "llvm.prefetch.p0i8"
        )
        builder.call(function, [address, flag(0), flag(2), flag(1)])  # to read, into the larger caches, data
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def zeros(typingctx, array):
    """A vector of zeros of the array's type."""
    vector = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        return ir.Constant(vector.llvm, None)

    return vector(array), codegen


@intrinsic
def splat(typingctx, array, number):
    """The number in every place of a vector of the array's type."""
    vector = Vector(array.dtype)

    def codegen(context, builder, signature, args):
        number = context.cast(builder, args[1], signature.args[1], array.dtype)
        return _everywhere(builder, vector, number)

    return vector(array, number), codegen


@intrinsic
def multiply_add(typingctx, a, b, c):
    """a·b + c, rounded once."""

    def codegen(context, builder, signature, args):
        kind = a.llvm
        name = f"llvm.fma.v{a.lanes}f{a.element.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind, kind, kind]), name
        )
        return builder.call(function, args)

    return a(a, b, c), codegen


@intrinsic
def divide(typingctx, a, b):
    """a/b."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(*args)

    return a(a, b), codegen


def _by_llvm(operation, a):
    """Signature and code of LLVM's own ``operation`` on a vector of the type of ``a``."""

    def codegen(context, builder, signature, args):
        name = f"llvm.{operation}.v{a.lanes}f{a.element.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(a.llvm, [a.llvm]), name)
        return builder.call(function, args)

    return a(a), codegen


@intrinsic
def floor(typingctx, a):
    """The largest whole numbers that are not above those of a vector."""

    return _by_llvm("floor", a)


@intrinsic
def clip(typingctx, a, low, high):
    """The numbers of a vector, or the bounds where they are beyond; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        a, low, high = args
        a = builder.select(builder.fcmp_ordered(">", a, high), high, a)
        return builder.select(builder.fcmp_ordered("<", a, low), low, a)

    return a(a, low, high), codegen


@intrinsic
def root(typingctx, a):
    """√a."""

    return _by_llvm("sqrt", a)


@intrinsic
def where_less(typingctx, a, b, yes, no):
    """``yes`` where a < b, else ``no``; all are vectors."""

    def codegen(context, builder, signature, args):
        a, b, yes, no = args
        return builder.select(builder.fcmp_ordered("<", a, b), yes, no)

    return a(a, a, a, a), codegen


@intrinsic
def total(typingctx, a):
    """The sum of the numbers of a vector, in an order that never changes: halves onto halves."""

    def codegen(context, builder, signature, args):
        lanes, value = a.lanes, args[0]
        while lanes > 1:
            lanes //= 2
            low, high = _places(range(lanes)), _places(range(lanes, 2 * lanes))
            value = builder.fadd(*(builder.shuffle_vector(value, value, half) for half in (low, high)))
        return builder.extract_element(value, ir.IntType(32)(0))

    return a.element(a), codegen


@intrinsic
def shift_to_exponent(typingctx, a):
    """Of float64 numbers the twelve lowest bits, moved to where sign and exponent are."""

    def codegen(context, builder, signature, args):
        whole = ir.VectorType(ir.IntType(64), a.lanes)
        bits = builder.shl(builder.bitcast(args[0], whole), ir.Constant(whole, [52] * a.lanes))
        return builder.bitcast(bits, a.llvm)

    return a(a), codegen


@intrinsic
def backwards(typingctx, a):
    """The numbers of a vector, the last one first."""

    def codegen(context, builder, signature, args):
        return builder.shuffle_vector(args[0], args[0], _places(reversed(range(a.lanes))))

    return a(a), codegen


@intrinsic
def totals(typingctx, a, b, c, d):
    """The sums of the numbers of four vectors, in an order that never changes: halves onto halves."""

    def codegen(context, builder, signature, args):
        def folded(x, y, parts):
            """Vectors of ``parts`` partial sums each: fold every part in half, x's parts before y's."""
            size = a.lanes // parts
            halves = [[], []]
            for first in range(0, 2 * a.lanes if y is not x else a.lanes, size):
                for half in (0, 1):
                    start = first + half * (size // 2)
                    halves[half] += range(start, start + size // 2)
            low, high = (builder.shuffle_vector(x, y, _places(half)) for half in halves)
            return builder.fadd(low, high)

        ab, cd = folded(args[0], args[1], 1), folded(args[2], args[3], 1)
        sums, lanes = folded(ab, cd, 2), a.lanes
        while lanes > 4:
            lanes //= 2
            half = lanes // 4
            low = [part * 2 * half + k for part in range(4) for k in range(half)]
            low, high = (
                builder.shuffle_vector(sums, sums, _places([k + shift for k in low])) for shift in (0, half)
            )
            sums = builder.fadd(low, high)
        each = [builder.extract_element(sums, ir.IntType(32)(k)) for k in range(4)]
        return context.make_tuple(builder, signature.return_type, each)

    return types.UniTuple(a.element, 4)(a, a, a, a), codegen


def _places(numbers) -> ir.Constant:
    numbers = list(numbers)
    kind = ir.VectorType(ir.IntType(32), len(numbers))
    return ir.Constant(kind, [ir.Constant(ir.IntType(32), n) for n in numbers])
