"""The doctor finds what is planted in a real data set, and has nothing to say of the set itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from defects import BOHR, DEFECTS, moved

from kalmandp.cli import main
from kalmandp.doctor import Finding, examine, ranges
from kalmandp.doctor.surrogate import columns
from kalmandp.doctor.units import slope
from kalmandp.errors import FileError, InputError
from kalmandp.formats.extxyz import write_extxyz
from kalmandp.frames.dataset import Dataset
from kalmandp.frames.elements import covalent_radii
from kalmandp.frames.frame import Frame
from kalmandp.geometry.neighbours import neighbour_statistics
from kalmandp.potentials.settings import ModelSettings

DATA = Path(__file__).parents[2] / "data"
TRAIN, TEST = DATA / "si64_lda_train.h5", DATA / "si64_lda_test.h5"


@pytest.fixture(scope="module")
def silicon() -> list[Frame]:
    with Dataset(TEST) as data:
        return list(data)


def written(path, frames) -> str:
    write_extxyz(path, frames)
    return str(path)


def test_the_good_sets_are_clean():
    assert examine([TRAIN, TEST]) == []


# at 1281 Å³ one kB·V is 0.8 eV: no slope tells them apart; `test_pressure_in_kbar` has another cell
@pytest.mark.parametrize("defect", [d for d in DEFECTS if d.name != "pressure in kB"], ids=lambda d: d.name)
def test_planted_defects_are_found(defect, silicon, tmp_path):
    frames = silicon
    if "contradiction" in defect.check:  # frames are judged by those near them: more of them
        with Dataset(TRAIN) as data:
            frames = list(data)
    frames, planted = defect.plant(frames, np.random.default_rng(1))
    found = examine(written(tmp_path / "bad.extxyz", frames))
    hits = [f for f in found if f.check in defect.check.split() and f.severity == defect.severity]
    assert any(defect.says in f.seen + f.advice for f in hits), [str(f) for f in found]
    named = set().union(*(f.frames for f in hits))
    assert len(named & set(planted)) >= defect.share * len(planted)
    # a planted frame may take one neighbour with it, not more
    assert len(named - set(planted)) <= 1 or not planted


def test_pressure_in_kbar(silicon, tmp_path):
    """A cell four times as large: 1 kB is 3.2 eV there."""
    doubled = [_repeated(f, (2, 2, 1)) for f in silicon]
    defect = next(d for d in DEFECTS if d.name == "pressure in kB")
    assert examine(written(tmp_path / "good.extxyz", doubled)) == []
    frames, _ = defect.plant(doubled, np.random.default_rng(0))
    found = examine(written(tmp_path / "bad.extxyz", frames))
    assert [f.check for f in found] == ["virial"] and "in kB (W = PV)" in found[0].advice


def _repeated(f: Frame, times) -> Frame:
    shifts = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), -1).reshape(-1, 3) @ f.cell
    n = len(shifts)
    return replace(
        f, positions=(shifts[:, None] + f.positions).reshape(-1, 3), types=np.tile(f.types, n),
        cell=f.cell * np.array(times)[:, None], energy=n * f.energy, forces=np.tile(f.forces, (n, 1)),
        virial=n * f.virial,
    )  # fmt: skip


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_virials_of_one_cell_are_judged_by_a_surrogate(silicon, tmp_path, sign):
    """All frames in one cell: no strain tells the sign, the forces do."""
    one = [f for f in silicon if np.abs(f.cell - silicon[0].cell).max() < 1e-6]
    assert len(one) >= 5
    flipped = [replace(f, virial=sign * f.virial) for f in one]
    found = [f for f in examine(written(tmp_path / "a.extxyz", flipped)) if f.check == "virial"]
    assert bool(found) == (sign < 0)
    assert all("fitted to the forces" in f.seen and "opposite sign" in f.advice for f in found)


def test_frames_in_both_sets(silicon, tmp_path):
    rng = np.random.default_rng(2)
    train, test = written(tmp_path / "a.extxyz", silicon[:40]), [*silicon[40:], moved(silicon[7], rng)]
    near = replace(silicon[3], positions=silicon[3].positions + rng.normal(0, 0.01, (64, 3)))
    found = examine([train, written(tmp_path / "b.extxyz", [*test, near])])
    assert [(f.check, f.frames) for f in found if "leakage" in f.check] == [
        ("leakage", (8,)), ("near-leakage", (9,)),
    ]  # fmt: skip


def test_the_same_configuration_with_two_energies(silicon, tmp_path):
    again = replace(silicon[5], energy=silicon[5].energy + 1.0)
    found = examine(written(tmp_path / "a.extxyz", [*silicon, again]))
    assert ("error", "contradiction", (5, 48)) in [(f.severity, f.check, f.frames) for f in found]


def test_neighbours_against_sel(silicon):
    model = lambda sel, *types: ModelSettings("se_e2_a", types or None, 5.0, {"sel": sel})
    most_f = [int(neighbour_statistics([frame], 5.0).most_f[0]) for frame in silicon]
    (found,) = examine(TEST, model=model([min(most_f)], "Si"))
    assert (found.severity, found.check) == ("error", "sel")
    assert found.frames == tuple(f for f, most in enumerate(most_f) if most > min(most_f))
    assert f"an atom has {max(most_f)} neighbours Si within 5 Å; sel allows {min(most_f)}" == found.seen
    for counted in ({"rcut": 5.0}, {"model": model("auto", "Si")}, {"model": model([20])}):
        (note,) = examine(TEST, **counted)
        assert note.severity == "note" and '"sel": [' in note.advice
    assert examine(TEST, model=model([60], "Si")) == []
    assert examine(TEST, model=model([60], "Ge"))[0].check == "species"
    (found,) = examine(TEST, model=model([600], "Si"))
    assert found.severity == "note" and "sel has 600" in found.seen
    with pytest.raises(InputError, match=r"rcut is .*; expected none beside model"):
        examine(TEST, rcut=5.0, model=model([20], "Si"))


def test_neighbours_that_gpumd_has_no_room_for(tmp_path):
    """Its nep.txt states at most 819: a warning, for a NEP with such a cut-off only."""
    grid = np.stack(np.meshgrid(*3 * [np.arange(6.0)], indexing="ij"), axis=-1).reshape(-1, 3)
    frame = Frame(1.9 * grid, np.zeros(216, int), ("Al",), cell=11.4 * np.eye(3), energy=-1.0)
    path = written(tmp_path / "a.extxyz", [frame])
    most = int(neighbour_statistics([frame], 12.0).most_f[0])
    found = lambda kind, cutoff: [
        f for f in examine(path, model=ModelSettings(kind, ("Al",), cutoff, {"sel": "auto"}))
        if f.check == "neighbours"
    ]  # fmt: skip
    (warning,) = found("nep", 12.0)
    assert warning.severity == "warning" and warning.frames == (0,)
    assert f"an atom has {most} neighbours within 12 Å; GPUMD takes 819" == warning.seen and most > 819
    assert found("nep", 6.0) == found("se_e2_a", 12.0) == found("hdnnp", 12.0) == []


def test_frames_that_cannot_be_used_are_named(silicon, tmp_path):
    path = written(tmp_path / "a.extxyz", silicon[:6])
    lines = Path(path).read_text().splitlines()
    lines[3 * 66 + 2] = lines[3 * 66 + 2].rsplit(" ", 1)[0] + " nan"
    Path(path).write_text("\n".join(lines))
    (found,) = [f for f in examine(path) if f.check == "unusable"]
    assert found.frames == (3,) and "forces" in found.seen
    with pytest.raises(FileError):
        examine(tmp_path / "nowhere.h5")


def test_the_command(silicon, tmp_path, capsys):
    assert main(["doctor", str(TRAIN), str(TEST)]) == 0
    assert "nothing found" in capsys.readouterr().out
    frames = [replace(f, forces=-f.forces) for f in silicon]
    bad = written(tmp_path / "bad.extxyz", frames)
    assert main(["doctor", bad]) == 1
    assert "gradients instead of forces" in capsys.readouterr().out
    assert main(["doctor", bad, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == 1 and report["findings"][0]["check"] == "energy-force"
    doubled = written(tmp_path / "double.extxyz", [*silicon, silicon[0]])
    assert main(["doctor", doubled]) == 0
    assert main(["doctor", doubled, "--strict"]) == 1
    assert main(["doctor", str(tmp_path / "nowhere.h5")]) == 1


# --- parts ----------------------------------------------------------------------------------------


def test_columns_of_the_surrogate_are_derivatives(silicon):
    """F = −∂E/∂r and W = −∂E/∂ε of each column agree with each other: Σ F·d is what a strain does."""
    f = silicon[0]
    E_k, F_ick, W_cdk = columns(f, 1)
    # without a net force, and without a torque: a symmetric virial
    np.testing.assert_allclose(F_ick.sum(0), 0.0, atol=1e-9)  # sums of 10³ numbers of order 1
    np.testing.assert_allclose(W_cdk, W_cdk.transpose(1, 0, 2), atol=1e-9)
    # a central difference of the pair terms, whose energies are the fingerprint
    from kalmandp.doctor.pair_basis import CUTOFF, densities, distances, pair_sums, radial
    from kalmandp.geometry.neighbours import neighbour_pairs

    def energies(frame):
        pairs = neighbour_pairs(frame, CUTOFF)
        return pair_sums(densities(radial(distances(pairs)), pairs, frame.types, 1), frame.types)

    h, step = 1e-4, np.zeros((64, 3))
    step[11, 1] = h
    up, down = (energies(replace(f, positions=f.positions + s * step)) for s in (1, -1))
    # of second order in h: 1e-8 times third derivatives of order (10π/r_c)³
    np.testing.assert_allclose(F_ick[11, 1, :10], -(up - down) / (2 * h), atol=1e-4)
    stretch = np.eye(3) + h * np.outer([1, 0, 0], [1, 0, 0])
    wide = energies(replace(f, positions=f.positions @ stretch, cell=f.cell @ stretch))
    # of first order in h, over sums of 10³ pairs
    np.testing.assert_allclose(W_cdk[0, 0, :10], -(wide - energies(f)) / h, rtol=5e-3, atol=2e-1)
    # all terms, products too: energies of the columns themselves
    np.testing.assert_allclose(E_k[:10], energies(f), rtol=1e-12)
    up, down = (columns(replace(f, positions=f.positions + s * step), 1).E_k for s in (1, -1))
    scale = np.abs(F_ick).max((0, 1)) + 1e-9
    np.testing.assert_allclose(F_ick[11, 1] / scale, -(up - down) / (2 * h) / scale, atol=1e-5)


def test_slopes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    s = slope(x, -27.2 * x + rng.normal(0, 1.0, 200), np.ones(200))
    assert s.is_known and s.agrees_with(-27.2, 0.05) and not s.agrees_with(27.2, 0.05)
    assert not slope(x, rng.normal(size=200), np.ones(200)).is_known
    assert not slope(0 * x, x, np.ones(200)).is_known


def test_words():
    assert ranges([0, 1, 2, 7]) == "frames 0–2, 7"
    assert ranges([3]) == "frame 3"
    assert ranges(range(0, 40, 2), most=2) == "frames 0, 2, … (20 frames)"
    finding = Finding("error", "overlap", "a.h5", "atoms touch", "Mend it", (2, 1, 2))
    assert str(finding) == "error: a.h5: frames 1–2: atoms touch. Mend it"
    # two of the table's own numbers, and a name that is no element
    np.testing.assert_allclose(covalent_radii(["H", "Si", "O_w"]), [0.31, 1.11, np.nan])
    assert BOHR == 0.529177210903
