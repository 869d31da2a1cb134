"""NEP: energy, forces and virial beside calorine's C++ (NEP_CPU), and the parts of a training frame.

    python examples/benchmarks/nep.py [--small] [--threads 1] [--rounds 9] [--forces 72]

Lead telluride (rock salt, every atom displaced by about 0.1 Å) with GPUMD's default form, N = 3,033, and
random weights, for which all sums are as long as for trained ones. calorine searches the neighbours at every
call; we are measured with a search at every call, and with a Verlet list, as molecular dynamics has it.
calorine uses one thread. Candidates take turns; medians over the rounds. With one thread seconds are those of
the processor, so that other work on the machine counts little. Results are compared before they are timed.

A frame of training measures one energy, six components of the virial, and 72 of the forces, m = 79 numbers.
The filter's share is 3 N² m multiplications and additions and some more (`matrix_update.py`); its rate stands
beside that of a BLAS product of 2048 × 2048 matrices, which takes turns with it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
from matrix_update import SIDE, operations
from support.passes import numbers, predicted
from support.turns import options_of, timed

from kalmandp import Frame
from kalmandp.engines.cpu.nep.engine import NEPNumbaEngine
from kalmandp.geometry.neighbours import neighbour_pairs
from kalmandp.geometry.verlet import VerletList
from kalmandp.kalman import RLEKF, Blocks
from kalmandp.potentials.nep.descriptor import NEPDescriptor
from kalmandp.potentials.nep.files import write_nep
from kalmandp.potentials.nep.initial import new
from kalmandp.potentials.protocol import Parameters

TYPES = ("Te", "Pb")
#: Half the lattice constant of PbTe, Å.
HALF = 3.285


def crystal(rng, cells: tuple[int, int, int]) -> Frame:
    """PbTe of so many primitive cells, two atoms each."""
    primitive = HALF * (np.ones((3, 3)) - np.eye(3))
    corners = np.array(list(np.ndindex(*cells))) @ primitive
    positions = np.concatenate([corners, corners + HALF]) + rng.normal(0, 0.06, (2 * len(corners), 3))
    types = np.repeat([0, 1], len(corners))
    return Frame(positions, types, TYPES, cell=np.array(cells)[:, None] * primitive)


@contextlib.contextmanager
def silence():
    """What C++ prints goes nowhere."""
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def calorine(path: Path, frame: Frame):
    """A function for E_i, F and W by calorine's compiled NEP_CPU; None where it is not installed."""
    try:
        from _nepy import NEPY
    except ImportError:
        return None
    n = len(frame)
    with silence():
        args = frame.cell.T.ravel().tolist(), frame.symbols, frame.positions.T.ravel().tolist(), [1.0] * n
        model = NEPY(str(path), n, *args)
    return model.get_potential_forces_and_virials


def inference(frame: Frame, made, threads: int, rounds: int, folder: Path) -> None:
    form = made.form
    engine = NEPNumbaEngine(form, form.layout(), threads=threads)
    par = Parameters(NEPDescriptor(form), form.layout(), made.weights, np.zeros(form.n_types))
    verlet = VerletList(form.cutoff, skin=1.0)

    def predict(pairs=None):
        E_i, F, f_pc, env = predicted(engine, par, made.statistics, frame, pairs)
        return E_i, F, engine.virial(env, f_pc)[0]

    runs = {"with a Verlet list": lambda: predict(verlet.pairs(frame)), "with a search": predict}
    write_nep(folder / "nep.txt", form, made.weights, made.statistics)
    peer = calorine(folder / "nep.txt", frame)
    if peer is not None:
        E_i, F, _ = peer()
        ours = predict()
        np.testing.assert_allclose(E_i, ours[0], atol=1e-10)
        np.testing.assert_allclose(np.reshape(F, (3, -1)).T, ours[1], atol=1e-10)
        runs["calorine"] = peer
    taken = timed(runs, threads, rounds)
    print(f"E, F, W of {len(frame)} atoms, {threads} thread(s)")
    for name, seconds in taken.items():
        ratio = "" if peer is None else f"{taken['calorine'] / seconds:8.2f} × as fast as calorine"
        print(f"  {name:22}{1e3 * seconds:9.2f} ms{1e6 * seconds / len(frame):8.2f} µs/atom{ratio}")


def training_frame(frame: Frame, made, threads: int, rounds: int, n_forces: int, rng) -> None:
    form, layout = made.form, made.form.layout()
    engine = NEPNumbaEngine(form, layout, threads=threads)
    par = Parameters(NEPDescriptor(form), layout, made.weights, np.zeros(form.n_types))
    pairs = neighbour_pairs(frame, form.cutoff)
    env = engine.environment(made.statistics, frame, [pairs])
    _, fwd = engine.energies(par, env)
    atoms = rng.choice(len(frame), -(-n_forces // 3), replace=False)
    force_k = np.stack([np.repeat(atoms, 3), np.tile(np.arange(3), len(atoms))], axis=1)[:n_forces]
    virial_k = np.array([(0, d, c) for d in range(3) for c in range(d, 3)])
    energy, forces, virials = numbers(energy=[0]), numbers(forces=force_k), numbers(virials=virial_k)
    m, N = 7 + len(force_k), layout.size
    A, B = rng.normal(size=(2, SIDE, SIDE))
    H = np.concatenate([engine.rows(par, env, fwd, part) for part in (energy, virials, forces)])
    error_q = 0.01 * rng.normal(size=m)
    kalman, other = (RLEKF(made.weights, Blocks((N,)), P0=0.1, lam=1.0, covariance="tiled") for _ in range(2))
    P = other.covariance
    K, HPH = P.project(H)
    # as much noise as P says: P may be updated with the same rows as often as the clock likes
    R = np.diag(HPH).copy()
    S = HPH + np.diag(R)
    C, z_q, _ = P.cholesky(S, error_q)
    K = K.copy()
    G = P.gain(K.copy(), C, z_q, made.weights).G_qw.copy()
    parts = {
        "environment": lambda: engine.environment(made.statistics, frame, [pairs]),
        "energies": lambda: engine.energies(par, env),
        "pair gradient": lambda: engine.pair_gradient(par, env, fwd),
        "row of the energy": lambda: engine.rows(par, env, fwd, energy),
        "rows of the virial": lambda: engine.rows(par, env, fwd, virials),
        f"rows of {len(force_k)} forces": lambda: engine.rows(par, env, fwd, forces),
        "the filter's update": lambda: kalman.update(H, error_q, R),
    }
    of_filter = {
        "  its P Hᵀ": lambda: P.project(H),
        "  its C, S = CCᵀ": lambda: P.cholesky(S, error_q),
        "  its C⁻¹K, w": lambda: P.gain(K.copy(), C, z_q, made.weights),
        "  its P − GᵀG": lambda: P.downdate(1e-6 * G, 1.0),
    }
    runs = {**parts, **of_filter, "gemm": lambda: A @ B}
    taken = timed(runs, threads, rounds)
    print(f"A frame of training: {len(frame)} atoms, {len(pairs.i_p)} pairs, N = {N:,}, {threads} thread(s)")
    for name in (*parts, *of_filter):
        print(f"  {name:22}{1e3 * taken[name]:9.2f} ms")
    print(f"  {'together':22}{1e3 * sum(taken[name] for name in parts):9.2f} ms")
    gemm = 2.0 * SIDE**3 / taken["gemm"]
    rate = operations(Blocks((N,)), m) / taken["the filter's update"]
    print(f"  filter {rate / 1e9:.0f} GFlop/s, gemm {gemm / 1e9:.0f}: {rate / gemm:.2f} of it")
    kept = sum(a.nbytes for a in (pairs.i_p, pairs.j_p, pairs.r_pc))
    print(f"  memory: {env.nbytes / 1e6:.1f} MB while a frame is worked on, {kept / 1e6:.2f} MB kept of each")


def main() -> None:
    options = options_of(__doc__, "one small crystal: seconds, not minutes", {"forces": 72})
    rng = np.random.default_rng(1)
    frame = crystal(rng, (5, 5, 5))
    made = new(TYPES, [frame], rng, radial_cutoff=8.0, angular_cutoff=4.0)
    with tempfile.TemporaryDirectory() as folder:
        for cells in [(5, 5, 5)] if options.small else [(5, 5, 5), (20, 20, 10)]:
            inference(crystal(rng, cells), made, options.threads, options.rounds, Path(folder))
    training_frame(frame, made, options.threads, options.rounds, options.forces, rng)


if __name__ == "__main__":
    main()
