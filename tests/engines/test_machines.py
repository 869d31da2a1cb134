"""The compiled kernels need no x86: what they are made of compiles for the processors of other machines, too.

Every operation of `vectors`, the counters of `threads` and the activations are put into one function. Its
LLVM code, as Numba has optimised it, is compiled to machine code for each target.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp.engines.cpu import threads, vectors
from kalmandp.engines.cpu.activation import apply

TARGETS = {
    "aarch64-unknown-linux-gnu": "generic",
    "arm64-apple-macosx11.0.0": "apple-m1",
    "x86_64-unknown-linux-gnu": "x86-64",  # as old as it can be: SSE2
}
LANES = vectors.WIDTH // 8


@numba.njit(**{**threads.KERNEL, "cache": False})
def everything(counters, a, b, narrow, out, phi, d1, d2):
    """Each operation once; ``out`` says what they gave."""
    task = threads.take(counters, 0, 0, 1)
    threads.done(counters, 0)
    threads.wait(counters, 0, 1)
    vectors.fetch(a, 0)
    x, y = vectors.load(a, 0), vectors.load(b, 0)
    z = vectors.multiply_add(x, y, vectors.splat(a, 1.0))
    z = vectors.clip(vectors.floor(z), vectors.splat(a, -9.0), vectors.splat(a, 9.0))
    z = vectors.divide(vectors.backwards(z), vectors.splat(a, 2.0))
    vectors.store(out, 0, z)
    vectors.add_to(out, 0, x)
    s = vectors.totals(x, y, z, vectors.zeros(a))
    power = vectors.shift_to_exponent(vectors.splat(a, 1.5 * 2.0**52 + 1024.0))
    vectors.store(out, LANES, power)
    many = vectors.load(narrow, 0)  # sixteen of float32
    vectors.store(narrow, 0, vectors.multiply_add(many, many, many))
    apply(0, 0.0, False, b, phi, d1, d2)
    return task, s


def arguments():
    a, b = np.random.default_rng(0).normal(size=(2, LANES))
    counters = np.zeros((threads.PHASES, 2, threads.LINE), dtype=np.int64)
    return counters, a, b, np.full(2 * LANES, 3, "f4"), *(np.zeros(n * LANES) for n in (2, 1, 1, 1))


@pytest.fixture(scope="module")
def ran():
    """The arguments after a call, and what it returned."""
    args = arguments()
    return args, everything(*args)


def test_the_function_does_what_it_says(ran):
    (_, a, b, narrow, out, phi, *_), (task, sums) = ran
    z = np.clip(np.floor(a * b + 1.0), -9, 9)[::-1] / 2
    assert task == 0
    # one rounding more or less than NumPy
    assert_allclose(out[:LANES], z + a, rtol=1e-14)
    assert_allclose(out[LANES:], 2.0)
    assert_allclose(sums, (a.sum(), b.sum(), z.sum(), 0.0), rtol=1e-13, atol=1e-15)
    assert_allclose(phi, np.tanh(b), rtol=1e-15)
    assert (narrow == 12).all()


@pytest.mark.parametrize("triple", TARGETS)
def test_it_compiles_for_other_machines(ran, triple):
    (text,) = everything.inspect_llvm().values()
    # the fence of an atomic read is written for the processor in that pass
    if llvm.llvm_version_info < (15,) or "llvm.x86.sse2.mfence" in text:
        pytest.skip("this LLVM shows its code only after its own pass for the processor of this machine")
    assert "llvm.x86." not in text and "llvm.fma" in text and "atomicrmw" in text
    for start in (llvm.initialize_all_targets, llvm.initialize_all_asmprinters):
        start()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"this LLVM has no back end for {triple}")
    machine = target.create_target_machine(cpu=TARGETS[triple], opt=3)
    for name, value in (("triple", triple), ("datalayout", str(machine.target_data))):
        text = re.sub(rf"^target {name} = .*$", f'target {name} = "{value}"', text, flags=re.MULTILINE)
    module = llvm.parse_assembly(text)
    module.verify()
    assert len(machine.emit_object(module)) > 1000
    fused = {"aarch64": "fmla", "arm64": "fmla"}.get(triple.split("-")[0])
    assert fused is None or fused in machine.emit_assembly(module)


def test_a_numba_without_its_private_parts_is_named():
    code = "import numba.core.cgutils as c; del c.get_or_insert_function; import kalmandp.engines.cpu.vectors"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert f"InputError: numba is {metadata.version('numba')}, which lacks what the engine needs" in last
