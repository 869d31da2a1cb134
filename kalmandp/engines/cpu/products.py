"""One matrix product of small blocks that stay in registers; larger products are made of it.

    C ← α C + β A B                 C (8, 16), A (8, K), B (K, 16), float64

Every number of A B is one chain of fused multiply-adds in the order of K: the bits do not depend on the
registers that a machine has. A and C may be float32; they are extended to float64 as they are read, and C is
rounded once. Arrays are flat. ::

    C[i, j] = C[c0 + i c_row + j],    A[i, k] = A[a0 + i a_row + k a_k],    B[k, j] = B[b0 + 16 k + j]
"""

from __future__ import annotations

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Rows and columns of C; a row is two vectors of 64 bytes.
ROWS, COLUMNS = 8, 16

_LANES = COLUMNS // 2
_REAL, _WHOLE, _BYTE, _FLAG = ir.DoubleType(), ir.IntType(64), ir.IntType(8), ir.IntType(32)
_VECTOR = ir.VectorType(_REAL, _LANES)


@intrinsic
def multiply_block(typingctx, C, c0, c_row, alpha, beta, A, a0, a_row, a_k, n_k, B, b0):
    """C ← α C + β A B, K = n_k."""

    def codegen(context, builder, signature, args):
        kinds = signature.args
        _Product(context, builder, (kinds[0], kinds[5], kinds[10]), args)

    n, x = types.int64, types.float64
    return types.void(C, n, n, x, x, A, n, n, n, n, B, n), _without_result(codegen)


@intrinsic
def multiply_strip(
    typingctx,
    C,
    c0,
    c_row,
    alpha,
    beta,
    A,
    a0,
    a_row,
    a_k,
    n_k,
    B,
    b0,
    step,
    growth,
    n_pieces,
    ahead,
    ahead_k,
):
    """C ← α C + β A B for a long A that comes from memory, in pieces of n_k columns.

    The second piece of A begins ``step`` after the first, the third step + growth after the second, and so
    on; B goes on. Step k of a piece prefetches what the next product will read: ahead + k ahead_k after the
    piece's beginning.
    """

    def codegen(context, builder, signature, args):
        kinds = signature.args
        _Product(context, builder, (kinds[0], kinds[5], kinds[10]), args[:12], args[12:])

    n, x = types.int64, types.float64
    return types.void(C, n, n, x, x, A, n, n, n, n, B, n, n, n, n, n, n), _without_result(codegen)


def _without_result(emit):
    def codegen(context, builder, signature, args):
        emit(context, builder, signature, args)
        return context.get_dummy_value()

    return codegen


def _rows_in_registers() -> int:
    """Rows of C at once: 8 rows need 16 registers of 64 bytes; elsewhere a vector takes several."""
    return ROWS if binding.get_host_cpu_features().get("avx512f", False) else 2


class _Product:
    """The code of one product; ``kinds`` are the array types of C, A and B."""

    def __init__(self, context, builder, kinds, args, pieces=None):
        C, c0, c_row, alpha, beta, A, a0, a_row, self.a_k, self.n_k, B, self.b0 = args
        self.builder, self.pieces, self.a0 = builder, pieces, a0
        self.C, self.A, self.B = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(kinds, (C, A, B), strict=True)
        )
        self.fma = self._function(f"llvm.fma.v{_LANES}f64", _VECTOR, [_VECTOR] * 3)
        self.prefetch = self._function(
            "llvm.prefetch.p0i8", ir.VoidType(), [_BYTE.as_pointer(), *[_FLAG] * 3]
        )
        at_once = _rows_in_registers()
        for first in range(0, ROWS, at_once):
            rows = range(first, first + at_once)
            starts = [builder.add(c0, builder.mul(_WHOLE(i), c_row)) for i in rows]
            for start in starts:  # the next 8 rows of C
                line = builder.add(start, builder.mul(c_row, _WHOLE(ROWS)))
                self._ask_for(self.C, line, to_write=1)
            sums = self._sums([builder.mul(_WHOLE(i), a_row) for i in rows], first == 0)
            self._add(starts, self._splat(alpha), self._splat(beta), sums)

    def _sums(self, offsets, ask):
        """A B, two vectors for each row of A."""
        builder = self.builder
        sums = [
            [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in "ab"] for _ in offsets
        ]
        if self.pieces is None:
            self._piece(offsets, sums, self.a0, self.b0, None)
            return sums
        step, growth, n_pieces, ahead, ahead_k = self.pieces
        a, b, length = (cgutils.alloca_once_value(builder, x) for x in (self.a0, self.b0, step))
        with cgutils.for_range(builder, n_pieces):
            start, now = builder.load(a), builder.load(length)
            asked = (builder.add(start, ahead), ahead_k) if ask else None
            self._piece(offsets, sums, start, builder.load(b), asked)
            builder.store(builder.add(start, now), a)
            builder.store(builder.add(now, growth), length)
            builder.store(builder.add(builder.load(b), builder.mul(self.n_k, _WHOLE(COLUMNS))), b)
        return sums

    def _piece(self, offsets, sums, a, b, asked):
        builder = self.builder
        rows = [builder.gep(self.A, [builder.add(a, offset)]) for offset in offsets]
        with cgutils.for_range(builder, self.n_k) as loop:
            if asked:
                self._ask_for(self.A, builder.add(asked[0], builder.mul(loop.index, asked[1])))
            start = builder.add(b, builder.mul(loop.index, _WHOLE(COLUMNS)))
            vectors = [builder.load(p, align=8) for p in self._pair(self.B, start, _VECTOR)]
            k = builder.mul(loop.index, self.a_k)
            for row, pair in zip(rows, sums, strict=True):
                number = self._splat(builder.load(builder.gep(row, [k])))
                for total, vector in zip(pair, vectors, strict=True):
                    builder.store(builder.call(self.fma, [number, vector, builder.load(total)]), total)

    def _add(self, starts, alpha, beta, sums):
        """C ← α C + β sums."""
        builder, stored = self.builder, self.C.type.pointee
        kind, align = ir.VectorType(stored, _LANES), 8 if stored == _REAL else 4
        for start, pair in zip(starts, sums, strict=True):
            for to, total in zip(self._pair(self.C, start, kind), pair, strict=True):
                old = builder.load(to, align=align)
                old = old if stored == _REAL else builder.fpext(old, _VECTOR)
                new = builder.call(self.fma, [beta, builder.load(total), builder.fmul(alpha, old)])
                builder.store(new if stored == _REAL else builder.fptrunc(new, kind), to, align=align)

    def _pair(self, data, start, kind):
        """Where the two vectors of a row begin."""
        for place in (start, self.builder.add(start, _WHOLE(_LANES))):
            yield self.builder.bitcast(self.builder.gep(data, [place]), kind.as_pointer())

    def _ask_for(self, data, place, to_write=0):
        """Prefetch a cache line into the L1 cache."""
        line = self.builder.bitcast(self.builder.gep(data, [place]), _BYTE.as_pointer())
        self.builder.call(self.prefetch, [line, _FLAG(to_write), _FLAG(3), _FLAG(1)])

    def _splat(self, number):
        """A number, as float64, in every place of a vector."""
        if number.type != _REAL:
            number = self.builder.fpext(number, _REAL)
        one = self.builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, _FLAG(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_FLAG, _LANES), None))

    def _function(self, name, result, arguments):
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)
