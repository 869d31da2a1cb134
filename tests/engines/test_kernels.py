"""How compiled code is written: kernels to be read at a glance, no sum that hangs on where memory lies."""

from __future__ import annotations

import ast
from pathlib import Path

import kalmandp

CPU = Path(kalmandp.__file__).parent / "engines" / "cpu"
MOST = 12
#: Parts that are always inlined: their arguments are registers, not a list that somebody must fill in right.
LONGER = {
    "multiply_block", "multiply_strip", "outer_sum", "backward_rows",
    "add_radial_pair", "_place", "add_motion", "add_pair", "add_moving_s",
}  # fmt: skip


def _compiled() -> dict[str, tuple[str, int]]:
    """Decorator and number of arguments of every compiled function, by its name."""
    found = {}
    for path in sorted(CPU.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for decorator in map(ast.unparse, node.decorator_list):
                    if "njit" in decorator or "intrinsic" in decorator:
                        found[node.name] = decorator, len(node.args.args)
    return found


def test_no_kernel_takes_more_than_twelve_arguments():
    compiled = _compiled()
    kernels = {name: n for name, (decorator, n) in compiled.items() if "KERNEL" in decorator}
    assert len(kernels) > 20
    assert {name: n for name, n in kernels.items() if n > MOST} == {}


def test_inlined_parts_that_take_more_are_listed():
    assert {name for name, (_, n) in _compiled().items() if n > MOST} == LONGER


def test_loops_that_sum_and_store_read_by_their_own_index():
    """A loop that stores is vectorised if what it reads lies apart from that: the compiler asks at run time.

    Of ``a[start + k]`` it also asks about the place of index start + k − len(a), which is behind the array. A
    sum is then added up in one order or another, as the allocator has it; of a row or slice, ``b[k]``, never.
    """
    found = []
    for path in sorted(CPU.rglob("*.py")):
        for loop in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(loop, ast.For):
                continue
            inner = [node for line in loop.body for node in ast.walk(line)]
            if any(isinstance(node, (ast.For, ast.While)) for node in inner):
                continue
            sums = [n for n in inner if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)]
            of_numbers = any(
                isinstance(n.op, ast.Add) and isinstance(n.value, ast.BinOp | ast.Name) for n in sums
            )
            places = [n for n in inner if isinstance(n, ast.Subscript)]
            stored = any(isinstance(n.ctx, ast.Store) for n in places)
            if of_numbers and stored and any(isinstance(n.slice, ast.BinOp) for n in places):
                found.append(f"{path.name}:{loop.lineno}")
    assert found == []
