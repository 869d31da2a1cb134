"""`kalmandp train nep.in` in a folder of GPUMD's: what it does, leaves behind, and says of bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kalmandp import FileError, Frame, InputError, Potential, read_input
from kalmandp.bridges.gpumd import nep_in
from kalmandp.cli import main
from kalmandp.formats.extxyz import write_extxyz

SMALL = """
# a comment
type 2 Na Cl
version 4
cutoff 5 4
n_max 2 2
basis_size 4 4
l_max 3 1   # three-body and q_222
neuron 4
lambda_f 2
generation 1000
population 20
"""


SITES = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])


def frames(n, seed=0, labels=("energy", "forces", "virial")):
    """Rock salt, shaken, with labels that are drawn."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        a = 5.6 * (1 + 0.02 * rng.normal())
        positions = 0.5 * a * SITES + 0.1 * rng.normal(size=(8, 3))
        given = {
            "energy": float(rng.normal() - 24), "forces": rng.normal(size=(8, 3)),
            "virial": np.diag([1.0, 2, 3]),
        }  # fmt: skip
        given["forces"] -= given["forces"].mean(axis=0)
        kept = {name: given[name] for name in labels}
        yield Frame(positions, [0] * 4 + [1] * 4, ("Na", "Cl"), cell=a * np.eye(3), **kept)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "nep.in").write_text(SMALL)
    write_extxyz(tmp_path / "train.xyz", frames(6))
    write_extxyz(tmp_path / "test.xyz", frames(3, seed=1, labels=("energy", "forces")))
    return tmp_path


def test_keywords_become_the_sections_of_an_input(place):
    s = read_input(place / "nep.in")
    m, o, t = s.model, s.optimizer, s.training
    assert (m.kind, m.type_map, m.cutoff) == ("nep", ("Na", "Cl"), 5.0)
    assert m.choices["l_max"] == (3, 1) and m.choices["neuron"] == 4 and m.choices["basis_size"] == (4, 4)
    assert o.preset == "matrix" and o.get("sigma_f") == pytest.approx(0.005)  # lambda_f 2: half the noise
    assert t.model_file == "nep.txt" and len(t.systems) == len(t.validation_systems) == 1
    assert len(s.notices) == 1 and "population, generation" in s.notices[0]
    snes = read_input(place / "nep.in", optimizer="SNES")
    assert snes.optimizer.get("population") == 20 and snes.training.n_steps == 1000 and not snes.notices
    assert snes.training.batch_size == 6  # all frames, as GPUMD's 1000
    (place / "nep.in").write_text(SMALL + "batch 4\n")
    assert read_input(place / "nep.in", optimizer="SNES").training.batch_size == 4
    as_is = (place / "train.xyz").read_text()
    (place / "train.xyz").write_text(as_is.replace("Lattice=", "lattice = "))  # GPUMD reads this, too
    assert read_input(place / "nep.in", optimizer="SNES").training.batch_size == 4
    (place / "nep.in").write_text(SMALL)
    assert read_input(place / "nep.in", optimizer="SNES").training.batch_size == 6
    (place / "nep.in").write_text(SMALL + "batch 4\n")
    ours = read_input(place / "nep.in")
    assert ours.training.batch_size == 1 and "batch" in ours.notices[0]


def test_weights_of_single_numbers_are_obeyed(place):
    """By name of the type, whatever the order; a force_delta of 0 is none, as in GPUMD."""
    (place / "nep.in").write_text(SMALL + "type_weight 1 3\nforce_delta 0.5\nlambda_shear 2\n")
    s = read_input(place / "nep.in")
    assert s.optimizer.get("type_weight") == {"Na": 1.0, "Cl": 3.0}
    assert (s.optimizer.get("force_delta"), s.optimizer.get("lambda_shear")) == (0.5, 2.0)
    assert all("type_weight" not in notice for notice in s.notices)
    [notice] = read_input(place / "nep.in", optimizer="SNES").notices
    assert "type_weight, force_delta, lambda_shear" in notice
    (place / "nep.in").write_text(SMALL + "force_delta 0\n")
    assert read_input(place / "nep.in").optimizer.get("force_delta") is None
    (place / "nep.in").write_text(SMALL + "type_weight 1\n")
    with pytest.raises(InputError, match="type_weight has 1 numbers; expected one for each of Na, Cl"):
        read_input(place / "nep.in")


def test_weights_of_frames_reach_the_filter(place):
    """train.xyz with weight=2 teaches otherwise than without; weight=1 teaches the same bits."""
    left = {}
    for weight in (None, 1.0, 2.0):
        (place / "train.xyz").unlink()
        write_extxyz(place / "train.xyz", (replace(f, weight=weight) for f in frames(6)))
        folder = place / str(weight)
        assert main(["train", str(place / "nep.in"), "-o", str(folder), "--smoke", "--skip-plots"]) == 0
        left[weight] = Potential.load(folder / "nep.txt").weights
    assert (left[None] == left[1.0]).all() and (left[None] != left[2.0]).any()


def test_a_folder_of_gpumds_is_trained_in_place(place, capsys):
    """The files have GPUMD's columns, in the order of the frames, and are those of the model that is left."""
    assert main(["train", str(place / "nep.in"), "-o", str(place), "--smoke", "--skip-plots"]) == 0
    assert "population, generation" in capsys.readouterr().err
    potential = Potential.load(place / "nep.txt")
    loss = np.loadtxt(place / "loss.out", ndmin=2)
    assert loss.shape[1] == 10 and (np.diff(loss[:, 0]) > 0).all()
    for name, given in (("train", list(frames(6))), ("test", list(frames(3, seed=1)))):
        results = potential.evaluate(given)
        energy, force = np.loadtxt(place / f"energy_{name}.out"), np.loadtxt(place / f"force_{name}.out")
        assert_allclose(energy[:, 0], [r.energy / 8 for r in results], rtol=1e-8)
        assert_allclose(energy[:, 1], [f.energy / 8 for f in given], rtol=1e-8)
        assert_allclose(force[:, :3], np.concatenate([r.forces for r in results]), rtol=1e-7, atol=1e-8)
        virial = np.loadtxt(place / f"virial_{name}.out")
        assert_allclose(virial[:, :3], [np.diag(r.virial) / 8 for r in results], rtol=1e-8)
        stress = np.loadtxt(place / f"stress_{name}.out")
        volume = [abs(np.linalg.det(f.cell)) for f in given]
        assert_allclose(stress[:, 0], 8 * 160.2176634 * virial[:, 0] / volume, rtol=1e-8)
    assert (np.loadtxt(place / "virial_test.out")[:, 6:] == -1e6).all()  # test.xyz has none
    assert_allclose(np.loadtxt(place / "virial_train.out")[:, 6:9], [[1 / 8, 2 / 8, 3 / 8]] * 6)


def test_prediction_only_predicts(place, capsys):
    assert main(["train", str(place / "nep.in"), "-o", str(place), "--smoke", "--skip-plots"]) == 0
    before = (place / "nep.txt").read_bytes(), np.loadtxt(place / "energy_train.out")
    (place / "nep.in").write_text(SMALL + "prediction 1\n")
    (place / "energy_train.out").unlink()
    assert main(["train", str(place / "nep.in"), "-o", str(place)]) == 0
    assert "6 frames predicted" in capsys.readouterr().out
    assert (place / "nep.txt").read_bytes() == before[0]
    assert_allclose(np.loadtxt(place / "energy_train.out"), before[1])


def test_fine_tuning_cuts_a_model_of_more_types(place):
    """A model of three types, of which the data have two: q_scaler and energies stay."""
    big = Potential.create(
        ["Na", "K", "Cl"], kind="nep", frames=list(frames(2)), rng=np.random.default_rng(3), neuron=4,
        radial_cutoff=5.0, angular_cutoff=4.0, n_max=(2, 2), basis_size=(4, 4), l_max=(3, 1),
    )  # fmt: skip
    big.save(place / "big.txt")
    (place / "nep.in").write_text(SMALL + "fine_tune big.txt nep.restart\n")
    from kalmandp.training.loop import Run

    run = Run(read_input(place / "nep.in"), place)
    assert run.potential.type_map == ("Na", "Cl")
    some = next(iter(frames(1, seed=5)))
    assert_allclose(run.potential.evaluate(some).energy, big.evaluate(some).energy, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type 2 Na Cl\nneurons 4\n", r"line 2: neurons is not a keyword; expected one of .*neuron"),
        ("type 3 Na Cl\n", r"line 1: type is '3 Na Cl'; expected the number of types, then as many names"),
        ("type 1 Na\ncutoff five 4\n", r"line 2: cutoff is 'five 4'; expected numbers"),
        ("type 1 Na\ncutoff 4 5\n", "angular cutoff of Na is 5.0; expected at most the radial one"),
        ("type 1 Na\nmodel_type 1\n", "model_type is 1; expected 0, a potential"),
        ("type 1 Na\ncharge_mode 1\n", "asks for a model with charges"),
        ("type 1 Na\nneuron 4\nneuron 5\n", "line 3: neuron is there twice"),
        ("type 1 Na\nneuron 10 10\n", "neuron names two layers; expected one"),
    ],
)
def test_what_is_wrong_is_named(place, text, message):
    (place / "nep.in").write_text(text)
    assert nep_in.recognises(place / "nep.in")
    with pytest.raises(InputError, match=message):
        from kalmandp.training.loop import Run

        Run(read_input(place / "nep.in"), place)


def test_missing_frames_are_named(place):
    (place / "train.xyz").unlink()
    with pytest.raises(FileError, match=r"train\.xyz: no such file"):
        read_input(place / "nep.in")
