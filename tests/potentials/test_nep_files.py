"""nep.txt: written and read back, others' dialects, damaged files, offsets per type, types cut out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nep_support import Case, Judge, judge_models, parameters, predict, random_form, random_frame
from numpy.testing import assert_allclose

from kalmandp.errors import FileError, InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import gather
from kalmandp.potentials.nep.descriptor import NEPDescriptor
from kalmandp.potentials.nep.files import NEPFile, cut_types, read_nep, write_nep
from kalmandp.potentials.nep.form import NEPForm

PROFILE = settings(max_examples=20, deadline=None)


def predicted(file: NEPFile, frame):
    """What the model of a file says of a frame, its own offsets included."""
    frame = frame.with_type_map(file.form.type_map)
    env = NEPDescriptor(file.form).environment(
        file.statistics, gather(frame, file.form.type_map, file.form.cutoff)
    )
    return predict(parameters(file.form, file.weights, file.bias_t), env)


def lines_of(path):
    return path.read_text().splitlines()


@PROFILE
@given(st.integers(0, 2**32 - 1), st.sampled_from(["none", "same", "own"]))
def test_a_file_gives_back_the_model(tmp_path_factory, seed, offsets):
    path, rng = tmp_path_factory.mktemp("nep") / "nep.txt", np.random.default_rng(seed)
    form = random_form(rng, int(rng.integers(1, 4)))
    case = Case(rng, form, random_frame(rng, form.type_map, 6))
    bias_t = rng.normal(size=form.n_types) * (offsets == "own") + 2.5 * (offsets != "none")
    case.par = case.par._replace(bias_t=bias_t)
    wanted = predict(case.par, case.env)
    write_nep(path, form, case.par.weights, case.statistics, bias_t)
    file = read_nep(path)
    got = predicted(file, case.frames)
    # the offsets are added in another order
    assert_allclose(got.E_i, wanted.E_i, rtol=1e-14, atol=1e-13)
    assert (got.F_ic == wanted.F_ic).all() and (got.q_id == wanted.q_id).all()
    if offsets == "none":
        assert file.form == form and (file.weights == case.par.weights).all()
    elif file.form.version == 4 and offsets == "own" and form.n_types > 1:
        # NEP3 and NEP4 hold offsets in one more neuron, which is taken out again
        assert file.form == NEPForm(**{**form.to_dict(), "version": 4})
        assert (file.bias_t == bias_t).all()


def test_the_neuron_for_offsets_is_there_for_other_programs(tmp_path):
    rng = np.random.default_rng(1)
    form = NEPForm(("O", "H"), radial_cutoff=4.0, angular_cutoff=3.0, neuron=5)
    w, statistics = rng.normal(size=form.layout().size), {"q_scaler": np.ones(form.size)}
    write_nep(tmp_path / "nep.txt", form, w, statistics, [1.0, -3.0])
    lines = lines_of(tmp_path / "nep.txt")
    assert "ANN 6 0" in lines
    first = lines.index("ANN 6 0") + 1
    net = (form.size + 2) * 6
    for t, offset in enumerate((1.0, -3.0)):
        W0, b0, w1 = np.split(
            np.array(lines[first + t * net : first + (t + 1) * net], float),
            [form.size * 6, form.size * 6 + 6],
        )
        assert not W0[-form.size :].any() and np.tanh(-b0[-1]) == 1.0 and w1[-1] == offset


@pytest.mark.parametrize("name", judge_models())
def test_judges_files_are_written_as_they_were_read(name, tmp_path):
    """Number by number, the header apart."""
    judge = Judge(name, tmp_path)
    file = read_nep(judge.path)
    write_nep(tmp_path / "again.txt", *file[:4])
    again = read_nep(tmp_path / "again.txt")
    assert again.form == file.form and (again.weights == file.weights).all()
    old, new = lines_of(judge.path), lines_of(tmp_path / "again.txt")
    start = next(n for n, line in enumerate(old) if line.startswith("ANN")) + 1
    wanted, got = np.array(old[start:], float), np.array(new[start:], float)
    if file.form.version == 5:  # b is added to the b_t of every type
        net = (file.form.size + 2) * file.form.neuron + 1
        biases = [*(net * (t + 1) - 1 for t in range(file.form.n_types)), net * file.form.n_types]
        wanted, got = np.delete(wanted, biases), np.delete(got, biases)
    assert (got == wanted).all()


def small(tmp_path, **choices):
    """Path and lines of a small file."""
    rng = np.random.default_rng(2)
    fields = {
        "radial_cutoff": 4.0,
        "angular_cutoff": 3.0,
        "n_max": (1, 1),
        "basis_size": (2, 2),
        "l_max": (2, 1),
    }
    form = NEPForm(("O", "H"), **{**fields, "neuron": 3, **choices})
    path = tmp_path / "nep.txt"
    write_nep(path, form, rng.normal(size=form.layout().size), {"q_scaler": rng.uniform(1, 2, form.size)})
    return path, lines_of(path), form


def test_matpl_and_gnep(tmp_path):
    """MatPL: nep4 with one last bias per type and no neighbour counts. GNEP: nep5, b = 0."""
    path, lines, form = small(tmp_path, version=5)
    nep5, frame = read_nep(path), random_frame(np.random.default_rng(3), ("O", "H"), 6)
    assert lines[0].startswith("nep5 ")
    header = next(n for n, line in enumerate(lines) if line.startswith("ANN")) + 1
    net = (form.size + 2) * 3 + 1
    numbers = lines[header:]
    own = [numbers[net - 1], numbers[2 * net - 1]]
    rest = numbers[2 * net + 1 :]
    matpl = [lines[0].replace("nep5", "nep4"), "cutoff 4.0 3.0", *lines[2:header]]
    matpl += numbers[: net - 1] + numbers[net : 2 * net - 1] + own + rest
    path.write_text("\n".join(matpl) + "\n")
    file = read_nep(path)
    assert file.form == nep5.form and file.neighbours is None
    assert (file.weights == nep5.weights).all()
    assert (predicted(file, frame).E_i == predicted(nep5, frame).E_i).all()


def test_old_and_short_l_max_lines(tmp_path):
    path, lines, _ = small(tmp_path)
    wanted = read_nep(path)
    assert "l_max 2 2 0" in lines  # 2: on, for readers that know three numbers
    for other in ("l_max 2 1 0", "l_max 2 2", "l_max 2 1 0 0 0 0 0"):
        path.write_text("\n".join(other if line.startswith("l_max") else line for line in lines))
        assert read_nep(path).form == wanted.form
    _, lines, _ = small(tmp_path, l_max=(4, 1, 0, 1))
    assert "l_max 4 1 0 1 0 0 0" in lines


def damaged(lines, at, line):
    return [*lines[:at], line, *lines[at + 1 :]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:-1], r"is cut short: \d+ follow its header; expected \d+"),
        (lambda x: [*x, "1.0", "1.0"], r"has too many numbers: \d+"),
        (lambda x: x[:3], "line 4 is 'the end of the file'; expected \"basis_size\""),
        (lambda x: [], "line 1 is ''; expected nep3, nep4 or nep5"),
        (lambda x: damaged(x, 0, "nep4_dipole 2 O H"), r"of another kind, nep4_dipole \(dipole\)"),
        (lambda x: damaged(x, 0, "nep4_zbl_charge2 2 O H"), r"of another kind.*\(charge2\)"),
        (lambda x: damaged(x, 0, "nep4_polarizability 2 O H"), "polarizability"),
        (lambda x: damaged(x, 0, "nep4_temperature 2 O H"), "temperature"),
        (lambda x: damaged(x, 0, "nep2 2 O H"), "of version 2"),
        (lambda x: damaged(x, 0, "nep4 3 O H"), "names 2 types; expected 3"),
        (lambda x: damaged(x, 0, "nep4 2 O O"), "type_map is .*expected names that differ"),
        (lambda x: damaged(x, 1, "cutoff 3 4 100 100"), "angular cutoff of O is 4.0; expected at most"),
        (lambda x: damaged(x, 1, "cutoff 4 3 100"), "line 2 is 'cutoff 4 3 100'"),
        (lambda x: damaged(x, 2, "n_max 1 x"), "line 3 has 'x'; expected a whole number"),
        (lambda x: damaged(x, 4, "l_max 9 0 0"), "l_max is 9; expected 1 to 8"),
        (lambda x: damaged(x, 5, "ANN 3 4"), "two hidden layers"),
        (lambda x: damaged(x, 9, "nan"), "line 10 has 'nan'; expected a finite number"),
        (lambda x: damaged(x, 9, "1.0.0"), "line 10 has '1.0.0'"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, change, message):
    path, lines, _ = small(tmp_path)
    path.write_text("\n".join(change(lines)))
    with pytest.raises(FileError, match=message):
        read_nep(path)


@PROFILE
@given(st.integers(0, 2**32 - 1))
def test_a_file_damaged_anywhere_is_read_or_refused(tmp_path_factory, seed):
    """A word changed, a line lost or doubled: another model, or a FileError that names the file."""
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("nep")
    zbl = {"pairs": [[0.5, 1.8, *([0.2, 1.0] * 4)]] * 3} if seed % 2 else None
    path, lines, _ = small(folder, zbl=zbl)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(8 if rng.random() < 0.7 else len(lines)))
        words = lines[at].split() or [""]
        words[int(rng.integers(len(words)))] = str(
            rng.choice(["", "-1", "0", "1e999", "7", "nep5_zbl", "x", "9" * 30])
        )
        lines[at : at + 1] = [[], [lines[at]] * 2, [" ".join(words)]][int(rng.integers(3))]
    path.write_text("\n".join(lines))
    try:
        assert np.isfinite(read_nep(path).weights).all()
    except FileError as error:
        assert str(path) in str(error)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(FileError, match=r"nowhere.txt: cannot be read \(No such file"):
        read_nep(tmp_path / "nowhere.txt")
    (tmp_path / "noise").write_bytes(bytes(range(128, 256)))
    with pytest.raises(FileError, match="is not a text file"):
        read_nep(tmp_path / "noise")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path, lines, form = small(tmp_path)
    w, q = np.zeros(form.layout().size), np.ones(form.size)
    with pytest.raises(InputError, match="weights is not finite"):
        write_nep(path, form, np.full_like(w, np.nan), {"q_scaler": q})
    with pytest.raises(InputError, match=r"shape of bias_t is \(3,\); expected \(2,\)"):
        write_nep(path, form, w, {"q_scaler": q}, np.zeros(3))
    assert lines_of(path) == lines


@pytest.mark.parametrize(
    "name", ["06_nep4_all_invariants", "16_nep4_zbl_flexible", "17_nep5_four_types", "03_nep3_two_types"]
)
def test_types_cut_out_of_a_file(name, tmp_path):
    """Same numbers for frames that have only the types kept, in another order."""
    file = read_nep(Judge(name, tmp_path).path)
    kept = file.form.type_map[::-1][:2]
    cut = cut_types(file, kept)
    assert cut.form.type_map == kept and (cut.statistics["q_scaler"] == file.statistics["q_scaler"]).all()
    rng = np.random.default_rng(4)
    small_frame = random_frame(rng, kept, 8)
    frame = Frame(small_frame.positions * 1.2, small_frame.types, kept, cell=small_frame.cell * 1.2)
    got, wanted = predicted(cut, frame), predicted(file, frame)
    assert_allclose(got.E_i, wanted.E_i, rtol=1e-13, atol=1e-13)
    assert_allclose(got.F_ic, wanted.F_ic, rtol=0, atol=1e-12 * np.abs(wanted.F_ic).max())
    with pytest.raises(InputError, match="a type that is wanted is Xx; expected types of the file"):
        cut_types(file, ("Xx",))


class TestLivingJudges:
    """Other programs read what is written here and give our numbers."""

    @staticmethod
    def written(seed, path):
        rng = np.random.default_rng(seed)
        form = random_form(
            rng, 1 + seed % 3, l_max=(4, *((1, 0, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), (1,) * 6)[seed % 3])
        )
        case = Case(rng, form, random_frame(rng, form.type_map, 8, "tilted"))
        write_nep(path, form, case.par.weights, case.statistics, case.par.bias_t)
        return case, predict(case.par, case.env)

    @pytest.mark.parametrize("seed", range(9))
    def test_calorine(self, seed, tmp_path):
        nepy = pytest.importorskip("_nepy", reason="calorine is not installed")
        case, wanted = self.written(seed, tmp_path / "nep.txt")
        f = case.frames
        args = (f.cell.T.ravel().tolist(), f.symbols, f.positions.T.ravel().tolist(), [1.0] * len(f))
        judge = nepy.NEPY(str(tmp_path / "nep.txt"), len(f), *args)
        E, F, W = judge.get_potential_forces_and_virials()
        scale = max(np.abs(wanted.F_ic).max(), np.abs(wanted.E_i).max(), 1.0)
        assert_allclose(E, wanted.E_i, rtol=0, atol=1e-12 * scale)
        assert_allclose(np.reshape(F, (3, -1)).T, wanted.F_ic, rtol=0, atol=1e-12 * scale)
        assert_allclose(np.reshape(W, (3, 3, -1)).sum(-1), wanted.W_fdc[0], rtol=0, atol=1e-11 * scale)

    @pytest.mark.parametrize("seed", range(9))
    def test_nep_adapters(self, seed, tmp_path):
        module = pytest.importorskip("nep_adapters.ase", reason="nep-adapters is not installed")
        ase = pytest.importorskip("ase", reason="ase is not installed")
        case, wanted = self.written(seed, tmp_path / "nep.txt")
        first = lines_of(tmp_path / "nep.txt")[0]
        if first.startswith("nep3"):
            pytest.skip("nep-adapters does not read nep3")
        f = case.frames
        atoms = ase.Atoms(f.symbols, positions=f.positions, cell=f.cell, pbc=True)
        atoms.calc = module.NepAseCalculator(str(tmp_path / "nep.txt"), backend="cpu")
        scale = max(np.abs(wanted.F_ic).max(), np.abs(wanted.E_i).max(), 1.0)
        assert_allclose(atoms.get_potential_energy(), wanted.E_i.sum(), rtol=0, atol=1e-11 * scale)
        assert_allclose(atoms.get_forces(), wanted.F_ic, rtol=0, atol=1e-11 * scale)
