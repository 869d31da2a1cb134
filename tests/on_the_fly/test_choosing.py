"""Greedy choice: the lazy one is the exact one, and P needs no label."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_frames import NEP, frames

import kalmandp
from kalmandp.errors import InputError
from kalmandp.kalman import RLEKF
from kalmandp.training.choosing import choose, know, laplace, noise_of, rows_of


@pytest.fixture
def potential():
    return kalmandp.Potential.create(("A", "B"), frames=frames(), rng=np.random.default_rng(1), **NEP)


def brute(potential, known, pool, n):
    """Greedy choice with P = (1/P₀ + Σ Hᵀ R⁻¹ H)⁻¹ inverted anew at each step: the Laplace form."""
    N = potential.layout.size
    information, chosen = np.eye(N), []

    def add(frame):
        H, n_atoms = rows_of(potential, frame)
        return H.T @ (H / noise_of(n_atoms, len(H))[:, None])

    for frame in known:
        information += add(frame)
    for _ in range(n):
        P = np.linalg.inv(information)
        score = [np.einsum("qw,wv,qv->", H := rows_of(potential, f)[0][1:-6], P, H) / len(H) for f in pool]
        score = [s if k not in chosen else -1.0 for k, s in enumerate(score)]
        chosen.append(int(np.argmax(score)))
        information += add(pool[chosen[-1]])
    return chosen


def test_the_choice_is_the_greedy_one(potential):
    known, pool = frames(2), frames(9, seed=3)
    found = list(choose(potential, laplace(potential, known), pool, 5))
    assert [c.frame for c in found] == brute(potential, known, pool, 5)
    assert all(c.sigma <= c.first * (1 + 1e-9) for c in found)


def test_a_copy_is_not_chosen_next(potential):
    pool = frames(5, seed=3)
    best = next(choose(potential, laplace(potential, frames(2)), pool, 1)).frame
    twice = [*pool, pool[best]]
    two = [c.frame for c in choose(potential, laplace(potential, frames(2)), twice, 2)]
    assert pool[best].positions is not twice[two[1]].positions


def test_P_after_an_update_does_not_depend_on_the_label(potential):
    kalman = laplace(potential, [])
    labelled = RLEKF(kalman.weights, kalman.blocks, P0=1.0, lam=1.0, nu=1.0, covariance="tiled")
    frame = frames(1)[0]
    H, n = rows_of(potential, frame)
    labelled.update(H, np.random.default_rng(0).normal(size=len(H)), noise_of(n, len(H)))
    know(potential, kalman, frame)
    assert_allclose(kalman.covariance.dense(0), labelled.covariance.dense(0), rtol=0, atol=0)
    assert (kalman.weights == potential.weights).all()


def test_none_is_refused(potential):
    with pytest.raises(InputError, match="number of frames to choose is 0"):
        next(choose(potential, laplace(potential, []), frames(2), 0))


def test_the_command_writes_what_it_chose(potential, tmp_path, capsys):
    from ase.io import read

    from kalmandp.cli import main

    named = kalmandp.Potential.from_state(
        {**potential.state(), "form": {**potential.form.to_dict(), "type_map": ["Si", "C"]}}
    )
    named.save(tmp_path / "nep.txt")
    pool = [
        kalmandp.Frame(f.positions, f.types, ("Si", "C"), f.cell, energy=f.energy, forces=f.forces)
        for f in frames(8, seed=3)
    ]
    kalmandp.Dataset.write(tmp_path / "pool.h5", pool)
    common = ["select", "-m", str(tmp_path / "nep.txt"), "-s", str(tmp_path / "pool.h5"), "-n", "3"]
    assert main(common) == 1  # no P
    assert "expected --checkpoint FILE" in capsys.readouterr().err
    out, folder = str(tmp_path / "s.extxyz"), str(tmp_path / "poscars")
    assert main([*common, "--data", str(tmp_path / "pool.h5"), "-o", out, "--poscar", folder]) == 0
    images, numbers = read(out, ":"), np.loadtxt(tmp_path / "s.why", usecols=1).astype(int)
    assert len(images) == 3 and images[0].calc is None
    for n, image in enumerate(images):
        assert_allclose(image.positions, pool[numbers[n]].positions, atol=1e-12)
        poscar = read(f"{folder}/POSCAR-{n + 1:04d}")
        assert sorted(poscar.symbols) == sorted(image.symbols)
        assert_allclose(np.sort(poscar.positions, 0), np.sort(image.positions, 0), atol=1e-9)
