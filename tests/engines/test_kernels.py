"""How compiled code is written: what a kernel takes can be read at a glance."""

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
