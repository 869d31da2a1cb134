"""One matrix product of small blocks that stay in registers; larger products are made of it.

    C ← α C + β A B                 C (8, 16), A (8, K), B (K, 16), float64

Every number of A B is one chain of fused multiply-adds in the order of K: the bits do not depend on the
registers that a machine has. A and C may be float32; they are extended to float64 as they are read, and C is
rounded once.
"""

from __future__ import annotations

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Rows and columns of C; a row is two vectors of 64 bytes.
ROWS, COLUMNS = 8, 16


def _rows_in_registers() -> int:
    """Rows of C at once: 8 rows need 16 registers of 64 bytes; elsewhere a vector takes several."""
    return ROWS if binding.get_host_cpu_features().get("avx512f", False) else 2


@intrinsic
def multiply_block(
    typingctx, C, c0, c_row, alpha, beta, A, a0, a_row, a_k, n_k, a_step, a_growth, n_steps, B, b0
):
    """C ← α C + β A B for flat arrays.

    C[i, j] is C[c0 + i c_row + j]. B[k, j] is B[b0 + 16 k + j], float64. A is n_steps pieces of n_k columns,
    one after the other as B's rows are: A[i, k] of the first is A[a0 + i a_row + k a_k]; the second begins
    a_step after the first, the third a_step + a_growth after the second, and so on.
    """
    lanes, wide = COLUMNS // 2, ir.DoubleType()
    vector, whole = ir.VectorType(wide, lanes), ir.IntType(64)
    at_once = _rows_in_registers()

    def codegen(context, builder, signature, args):
        C, c0, c_row, alpha, beta, A, a0, a_row, a_k, n_k, a_step, a_growth, n_steps, B, b0 = args
        kind_C, kind_A = signature.args[0], signature.args[5]
        data_C = context.make_array(kind_C)(context, builder, C).data
        data_A = context.make_array(kind_A)(context, builder, A).data
        data_B = context.make_array(signature.args[13])(context, builder, B).data
        stored = context.get_value_type(kind_C.dtype)
        stored_vector, align = ir.VectorType(stored, lanes), kind_C.dtype.bitwidth // 8

        def splat(number):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), lanes), None))

        def address(data, start, offset, kind):
            return builder.bitcast(builder.gep(data, [builder.add(start, whole(offset))]), kind.as_pointer())

        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f64"
        )
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]), "llvm.prefetch.p0i8"
        )
        for first in range(0, ROWS, at_once):
            rows = range(at_once)
            starts_A = [builder.mul(whole(first + i), a_row) for i in rows]
            starts_C = [builder.add(c0, builder.mul(whole(first + i), c_row)) for i in rows]
            for start in starts_C:
                for j in (0, lanes):  # C is needed at the end
                    line = address(data_C, start, j, ir.IntType(8))
                    builder.call(prefetch, [line, flag(1), flag(3), flag(1)])
            sums = [[cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in "ab"] for _ in rows]
            place_A, step = (cgutils.alloca_once_value(builder, x) for x in (a0, a_step))
            place_B = cgutils.alloca_once_value(builder, b0)
            with cgutils.for_range(builder, n_steps):
                start_A, start_B = builder.load(place_A), builder.load(place_B)
                bases = [builder.gep(data_A, [builder.add(start_A, start)]) for start in starts_A]
                with cgutils.for_range(builder, n_k) as loop:
                    b = builder.add(start_B, builder.mul(loop.index, whole(COLUMNS)))
                    b0_, b1 = (
                        builder.load(address(data_B, b, j, vector), align=8) for j in (0, lanes)
                    )
                    k = builder.mul(loop.index, a_k)
                    for base, (s0, s1) in zip(bases, sums, strict=True):
                        number = builder.load(builder.gep(base, [k]))
                        if number.type != wide:
                            number = builder.fpext(number, wide)
                        a = splat(number)
                        builder.store(builder.call(fma, [a, b0_, builder.load(s0)]), s0)
                        builder.store(builder.call(fma, [a, b1, builder.load(s1)]), s1)
                builder.store(builder.add(start_A, builder.load(step)), place_A)
                builder.store(builder.add(builder.load(step), a_growth), step)
                builder.store(builder.add(start_B, builder.mul(n_k, whole(COLUMNS))), place_B)
            alphas, betas = splat(alpha), splat(beta)
            for start, pair in zip(starts_C, sums, strict=True):
                for j, total in zip((0, lanes), pair, strict=True):
                    to = address(data_C, start, j, stored_vector)
                    old = builder.load(to, align=align)
                    old = old if stored == wide else builder.fpext(old, vector)
                    new = builder.call(fma, [betas, builder.load(total), builder.fmul(alphas, old)])
                    new = new if stored == wide else builder.fptrunc(new, stored_vector)
                    builder.store(new, to, align=align)
        return context.get_dummy_value()

    whole_, real = types.int64, types.float64
    return (
        types.void(
            C, whole_, whole_, real, real, A, whole_, whole_, whole_, whole_, whole_, whole_, whole_, B, whole_
        ),
        codegen,
    )
