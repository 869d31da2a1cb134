"""Statistics, normalisation, first weights and default set of an HDNNP."""

from __future__ import annotations

import numpy as np
import pytest
from hdnnp_cases import judges, read_frames, unpack
from numpy.testing import assert_allclose

from kalmandp import read_input
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.potentials.hdnnp.default_set import default_functions, numbers_of_functions
from kalmandp.potentials.hdnnp.files import read_folder, read_input_nn, read_scaling
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.initial import n2p2_draws, n2p2_weights
from kalmandp.potentials.hdnnp.new import new
from kalmandp.potentials.hdnnp.normalisation import normalised
from kalmandp.potentials.hdnnp.statistics import function_statistics
from kalmandp.potentials.hdnnp.symmetry_functions import SymmetryFunction


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize("name", sorted(judges("data")["scaling"]))
def test_scaling_data_of_nnp_scaling(name, engine, tmp_path):
    files = judges("data")["scaling"][name]
    folder = unpack(files, tmp_path)
    form = read_input_nn(folder / "input.nn", "metal").form
    wanted = read_scaling(folder / "scaling.data", form)
    seen = function_statistics(form, read_frames(files["input.data"], form.type_map), engine=engine)
    for key, value in wanted.items():
        assert_allclose(seen.by_name[key], value, rtol=0, atol=1e-13 * np.abs(value).max())


@pytest.mark.parametrize("way", ["ref", "force"])
def test_normalisation_of_nnp_train(way, tmp_path):
    judge = judges("data")["normalisation"][way]
    folder = unpack(judge["files"], tmp_path)
    model = read_folder(folder, "metal")
    atom_energy_t = read_input_nn(folder / "input.nn", "metal").atom_energy_t
    frames = read_frames(judge["files"]["input.data"], model.form.type_map)
    form = normalised(model.form, frames, atom_energy_t, way, model.weights, model.statistics)
    for key in ("mean_energy", "conv_energy", "conv_length"):
        assert_allclose(getattr(form, key), judge["result"][key], rtol=1e-12)


def test_normalisation_needs_labels_that_vary():
    f = SymmetryFunction(2, ("Si",), 3.0, eta=0.1)
    form = HDNNPForm(("Si",), [[f]], hidden=(2,), activations=("tanh", "linear"))
    frame = Frame([[0, 0, 0], [0, 0, 2]], [0, 0], ("Si",), pbc=False, energy=1.0, forces=np.zeros((2, 3)))
    with pytest.raises(InputError, match="spread of energies"):
        normalised(form, [frame, frame], [0.0], "ref")


@pytest.mark.parametrize("k", range(5))
def test_first_weights_of_nnp_train(k):
    judge = judges("data")["initial_weights"][k]
    functions = [
        [SymmetryFunction(2, ("S",), 6.0, eta=0.1 * (d + 1)) for d in range(n)] for n in judge["inputs"]
    ]
    letters = {"t": "tanh", "s": "sigmoid", "p": "softplus", "l": "linear", "g": "gaussian", "c": "cosine"}
    form = HDNNPForm(
        tuple(judge["elements"]), functions, hidden=tuple(judge["nodes"]),
        activations=tuple(letters[x] for x in judge["activations"].split()),
    )  # fmt: skip
    draws = [np.array(judge["draws"][name]) for name in judge["elements"]]
    made = n2p2_weights(form, draws, judge["weights_min"], judge["weights_max"], bool(judge["nguyen_widrow"]))
    from kalmandp.potentials.hdnnp.files import file_order

    for name, order in zip(form.type_map, file_order(form), strict=True):
        assert_allclose(made[order], judge["weights"][name], rtol=1e-15, atol=1e-15)
    for ours, theirs in zip(n2p2_draws(form, judge["random_seed"]), draws, strict=True):
        assert (ours == theirs).all(), "the generator itself"


def lattice(rng, names, n=3, spacing=2.6) -> Frame:
    sites = np.stack(np.meshgrid(*[np.arange(n)] * 3), -1).reshape(-1, 3) * spacing
    positions = sites + rng.normal(size=sites.shape) * 0.1
    types = np.arange(len(sites)) % len(names)
    return Frame(positions, types, tuple(names), cell=np.eye(3) * n * spacing)


@pytest.mark.parametrize("n_types", [1, 2, 3, 4, 5, 6])
def test_default_set(n_types):
    """At most forty functions, all different, all of which vary, whose Gram matrix has no flat direction."""
    rng = np.random.default_rng(n_types)
    names = ["H", "C", "O", "Si", "Cu", "Au"][:n_types]
    frames = [lattice(rng, names) for _ in range(6)]
    made = new(names[::-1], frames, rng, hidden=(4,), activations=("tanh", "linear"))
    n_radial, n_angular = numbers_of_functions(n_types)
    assert made.form.type_map == tuple(names)
    assert set(made.form.size_t) == {n_radial * n_types + n_angular * n_types * (n_types + 1) // 2}
    assert max(made.form.size_t) <= 40
    for t, size in enumerate(made.form.size_t):
        assert (made.statistics["sigma"][t, :size] > 0).all()
    assert np.isfinite(made.weights).all() and made.info["min_nbor_dist"] > 0


def test_elements_that_never_meet_have_no_functions():
    frames = [Frame([[0, 0, 0], [0, 0, 2.0]], [0, 0], ("H", "C"), pbc=False)]
    frames += [Frame([[0, 0, 0], [0, 0, 1.5], [0, 1.5, 0]], [1, 1, 1], ("H", "C"), pbc=False)]
    sets = default_functions(("H", "C"), frames, cutoff=4.0)
    assert {f.neighbours for f in sets[0]} == {("H",), ("H", "H")}
    assert {f.neighbours for f in sets[1]} == {("C",), ("C", "C")}
    with pytest.raises(InputError, match="no two atoms"):
        default_functions(("H",), [Frame([[0, 0, 0]], [0], ("H",), pbc=False)])


def test_same_seed_same_weights():
    rng = np.random.default_rng(1)
    frames = [lattice(rng, ["Si"])]
    made = [new(["Si"], frames, np.random.default_rng(5), n_radial=4, n_angular=4) for _ in range(2)]
    assert (made[0].weights == made[1].weights).all()
    for initial in ("n2p2", "nguyen-widrow"):
        weights = new(["Si"], frames, rng, n_radial=4, n_angular=4, initial=initial).weights
        assert weights.shape == made[0].weights.shape and np.isfinite(weights).all()
    with pytest.raises(InputError, match="initial is best"):
        new(["Si"], frames, rng, initial="best")
    with pytest.raises(InputError, match="no frames"):
        new(["Si"], [], rng)


SECTION = {"type": "hdnnp", "type_map": ["H", "O"], "symmetry_functions": ["H 2 O .5 0 6.0", "O 2 H .5 0 7"]}


def section(**changes):
    tree = {**SECTION, **changes}
    return read_input({
        "model": {k: v for k, v in tree.items() if v is not None}, "optimizer": {"type": "RLEKF"},
        "training": {"training_data": {"systems": ["data.h5"]}, "numb_steps": 1},
    }).model  # fmt: skip


def test_functions_of_ones_own_in_an_input_of_ours():
    model = section()
    assert [[(f.kind, f.rc) for f in rows] for rows in model.choices["functions"]] == [[(2, 6.0)], [(2, 7.0)]]
    assert model.cutoff == 7.0


@pytest.mark.parametrize("changes, message", [
    ({"symmetry_functions": ["H 2 O .5 0 6", "O 2 H x 0 6"]}, "line 2: .* not all of x 0 6 are numbers"),
    ({"symmetry_functions": ["H 2 O .5 0 6"]}, "element O has no symfunction_short"),
    ({"type_map": None}, "model/type_map"),
    *(({name: 3}, f"model/{name} is 3; expected none beside symmetry_functions: it is of a set") for name in
      ("cutoff", "angular_cutoff", "n_radial", "n_angular", "n_functions")),
    ({"input_nn": "no.nn"}, "model/symmetry_functions .* expected it in input_nn alone"),
    ({"symmetry_functions": None, "type_map": None, "input_nn": "a.nn", "cutoff": 3}, "none beside inp"),
    ({"symmetry_functions": None, "type_map": None, "input_nn": "no.nn"}, "no.nn: no such file"),
], ids=str)  # fmt: skip
def test_sections_that_cannot_be(changes, message):
    with pytest.raises(InputError, match=message):
        section(**changes)
