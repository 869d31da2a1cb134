"""What a Deep Potential must do whatever its weights: padding, limits, closed forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cases import Case, random_architecture, random_frame
from numpy.testing import assert_allclose

from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.cutoff import switch
from kalmandp.potentials import atomic, batches, network
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import initial_weights
from kalmandp.potentials.deep_potential.moments import contract, moments
from kalmandp.potentials.deep_potential.statistics import environment_statistics
from kalmandp.potentials.energy_bias import energy_bias
from kalmandp.potentials.potential import Potential
from kalmandp.training.report.metrics import evaluate


def potential_for(rng, n_types=2, engine="numpy", **choices):
    choices.setdefault("embedding_activation", "tanh")
    a = random_architecture(rng, n_types, **choices)
    davg, dstd = np.zeros((n_types, 4)), np.full((n_types, 4), 0.4)
    davg[:, 0] = 0.15
    weights = initial_weights(a.layout(), rng)
    bias = rng.normal(size=n_types)
    return Potential(a, weights, davg=davg, dstd=dstd, bias_atom_e=bias, engine=engine)


@pytest.fixture(params=["numpy", "numba"])
def engine(request):
    return request.param


def test_T_and_D_are_the_products_of_matrices_in_the_paper():
    """T = GᵀR̃/N and D = T T‹ᵀ, with a row of G and of R̃ for each slot of an atom, padding among them."""
    rng = np.random.default_rng(3)
    env = Case(rng, random_architecture(rng, 2), random_frame(rng, 2, 5)).env
    G_pm, G_vm = rng.normal(size=(len(env.Rt_pk), 4)), rng.normal(size=(len(env.Rt_vk), 4))
    T_imk = moments(env, G_pm, G_vm, 7)
    D_ims = contract(T_imk, 3).reshape(-1, 4, 3)
    for i in range(env.geometry.n_atoms):
        own, padding_v = env.geometry.i_p == i, np.asarray(env.count_iv[i]).astype(int)
        G = np.concatenate([G_pm[own], np.repeat(G_vm, padding_v, axis=0)])
        R = np.concatenate([env.Rt_pk[own], np.repeat(env.Rt_vk, padding_v, axis=0)])
        assert own.any() and padding_v.any()
        assert_allclose(T_imk[i], G.T @ R / 7, rtol=1e-12, atol=1e-13)  # some hundred terms
        assert_allclose(D_ims[i], G.T @ R @ (R.T @ G[:, :3]) / 49, rtol=1e-11, atol=1e-12)


def test_one_atom_alone_has_the_energy_of_padding_counts(engine):
    rng = np.random.default_rng(14)
    p = potential_for(rng, n_types=1, engine=engine)
    result = p.evaluate(Frame(np.zeros((1, 3)), [0], ("A",)))
    a = p.form
    # all slots empty: T = G(g0) R̃0, D = T T‹ᵀ, by hand
    g0 = -p.statistics["davg"][0] / p.statistics["dstd"][0]
    G, _ = network.forward(p.layout.layers(p.weights, f"embedding.{0}"), g0[:1, None].reshape(1, 1))
    T_mk = G[0][:, None] * g0[None, :]
    D = (T_mk @ T_mk[: a.axis_neuron].T).reshape(1, -1)
    E, _ = network.forward(p.layout.fitting(p.weights, 0), D)
    assert_allclose(result.energy, E[0, 0] + p.bias_atom_e[0], rtol=1e-12)
    assert_allclose(result.forces, 0, atol=0)


def test_padding_counts_padding_counts_explicitly():
    """The analytic term equals rows of R = 0 written out, slot by slot."""
    rng = np.random.default_rng(15)
    case = Case(rng, random_architecture(rng, 2), random_frame(rng, 2, 6))
    env, g, a, par = case.env, case.env.geometry, case.form, case.par
    _, forward = atomic.energies(par, env)
    i = 2
    T_mk = np.zeros((a.embedding[-1], 4))
    t_i = g.types_i[i]
    for t in range(2):
        if a.is_excluded(t_i, t):
            continue
        rows = [p for p in np.nonzero(g.i_p == i)[0] if g.types_i[g.j_p[p]] == t]
        R_k = [env.Rt_pk[p] for p in rows]
        R_k += [-case.statistics["davg"][t_i] / case.statistics["dstd"][t_i]] * (a.sel[t] - len(rows))
        layers = par.layout.layers(par.weights, f"embedding.{a.embedding_index(t_i, t)}")
        G, _ = network.forward(layers, np.array(R_k)[:, :1])
        T_mk += G.T @ np.array(R_k)
    assert_allclose(forward.descriptor.T_imk[i], T_mk / sum(a.sel), rtol=1e-12, atol=1e-14)


def test_excluded_types_do_not_see_each_other(engine):
    rng = np.random.default_rng(16)
    p = potential_for(rng, engine=engine, exclude_types=((0, 1),))
    frame = Frame([[0, 0, 0], [1.5, 0, 0], [0, 1.6, 0]], [0, 1, 1], ("A", "B"))
    near = p.evaluate(frame)
    far = p.evaluate(dataclasses.replace(frame, positions=frame.positions + [[9, 0, 0], [0] * 3, [0] * 3]))
    assert_allclose(near.energy, far.energy, rtol=1e-13)
    assert_allclose(near.forces[0], 0, atol=1e-15)


def test_the_energy_is_smooth_where_a_neighbour_leaves(engine):
    rng = np.random.default_rng(17)
    p = potential_for(rng, n_types=1, engine=engine, rcut=3.0, rcut_smth=1.0)
    pair = lambda x: p.evaluate(Frame([[0, 0, 0], [x, 0, 0]], [0, 0], ("A",)))
    inside, outside = pair(3.0 - 1e-4), pair(3.0 + 1e-4)
    # w ~ (r_c − r)³ near the cut-off: energy to the third, force to the second power of 1e-4
    assert abs(inside.energy - outside.energy) < 1e-9
    assert np.abs(inside.forces - outside.forces).max() < 1e-6


def test_switch_meets_its_ends():
    w, dw = switch(np.array([0.2, 1.0, 3.0, 5.0, 6.0]), 1.0, 5.0)
    assert_allclose(w, [1, 1, 0.5, 0, 0], atol=1e-15)
    assert_allclose(dw[[0, 1, 3, 4]], 0, atol=1e-15)
    assert_allclose(dw[2], -15 / 8 / 4, rtol=1e-14)  # w′(½) = −15/8, over r_c − r_s


def test_more_neighbours_than_sel_is_an_error(engine):
    rng = np.random.default_rng(18)
    p = potential_for(rng, engine=engine, sel=(2, 150), rcut=4.0)
    with pytest.raises(InputError, match=r"atom \d has \d+ neighbours of type A .* sel allows 2"):
        p.evaluate(random_frame(rng, 2, 7))


def test_statistics_of_a_dimer_by_hand():
    a = Architecture(("A",), rcut=4.0, rcut_smth=3.0, sel=(2,))
    frame = Frame([[0, 0, 0], [2.0, 0, 0]], [0, 0], ("A",))
    s = environment_statistics(a, [frame])
    # each atom: one slot 1/r = ½, one empty; angular rows ±½, 0, 0 and three zeros
    assert_allclose(s.davg_tk, [[0.25, 0, 0, 0]])
    assert_allclose(s.dstd_tk[0, 0], np.sqrt(0.5 * 0.25 - 0.25**2))
    assert_allclose(s.dstd_tk[0, 1:], np.sqrt(0.25 / 6))
    assert s.closest == 2.0


def test_energy_bias_is_least_squares_and_keeps_what_is_given():
    make = lambda n, m, E: Frame(
        np.arange(3 * (n + m)).reshape(-1, 3), [0] * n + [1] * m, ("A", "B"), energy=E
    )
    frames = [make(1, 2, 1 * 3.0 + 2 * 5.0), make(2, 1, 2 * 3.0 + 5.0)]
    assert_allclose(energy_bias(frames, ("A", "B")), [3.0, 5.0], rtol=1e-12)
    assert_allclose(energy_bias(frames, ("A", "B"), [2.0, None])[0], 2.0)
    # one composition only: the smallest bias that explains it
    assert_allclose(energy_bias(frames[:1], ("A", "B")), np.array([1, 2]) * 13.0 / 5, rtol=1e-12)


def test_create_takes_sel_and_statistics_from_the_data(engine):
    rng = np.random.default_rng(19)
    frames = [dataclasses.replace(random_frame(rng, 2, 6), energy=-3.0) for _ in range(4)]
    p = Potential.create(
        ("A", "B"), rcut=3.0, frames=frames, rng=np.random.default_rng(1), engine=engine,
        embedding=(4, 8), axis_neuron=3, fitting=(5, 5),
    )  # fmt: skip
    again = Potential.create(
        ("A", "B"), rcut=3.0, frames=frames, rng=np.random.default_rng(1), engine=engine,
        embedding=(4, 8), axis_neuron=3, fitting=(5, 5),
    )  # fmt: skip
    assert (p.weights == again.weights).all()
    assert all(s % 4 == 0 for s in p.form.sel)
    env = p.engine.environment(p.statistics, frames)
    assert env.count_iv.min() >= 0
    with pytest.raises(InputError, match="rng is None"):
        Potential.create(("A",), rcut=3.0, frames=frames)


def test_ase_atoms_give_what_their_frame_gives(engine):
    ase = pytest.importorskip("ase", reason="needs the package ase")
    rng = np.random.default_rng(21)
    a = Architecture(("O", "H"), 3.0, 0.5, (150, 150), embedding=(4, 8), axis_neuron=3, fitting=(5,))
    w = initial_weights(a.layout(), rng)
    p = Potential(a, w, davg=np.zeros((2, 4)), dstd=np.ones((2, 4)), bias_atom_e=[0, 0], engine=engine)
    frame = random_frame(rng, 2, 6)
    symbols = [("O", "H")[t] for t in frame.types]
    atoms = ase.Atoms(symbols, frame.positions, cell=frame.cell, pbc=True)
    named = dataclasses.replace(frame, type_map=("O", "H"))
    for ours, theirs in zip(p.evaluate(named), p.evaluate(atoms), strict=True):
        assert_allclose(ours, theirs, rtol=0, atol=0)
    labelled = dataclasses.replace(named, energy=1.0, forces=np.zeros((6, 3)))
    atoms.info["energy"], atoms.arrays["forces"] = 1.0, np.zeros((6, 3))
    for asked in ([atoms], atoms):
        assert_allclose(evaluate(p, asked), evaluate(p, [labelled]), rtol=0, atol=0)
    with pytest.raises(InputError, match=r"of type str; expected Frame or ase\.Atoms"):
        evaluate(p, "data.h5")
    with pytest.raises(InputError, match="species He"):
        p.evaluate(ase.Atoms("He"))


def test_many_frames_give_what_each_of_them_gives(engine, monkeypatch):
    rng = np.random.default_rng(22)
    frames = [random_frame(rng, 1, n) for n in (3, 5, 4, 6, 2)]
    p = Potential.create(
        ("A",), rcut=3.0, frames=frames, rng=rng, embedding=(4,), axis_neuron=2, engine=engine
    )
    together = []
    environment = p.environment
    monkeypatch.setattr(p, "environment", lambda some: together.append(len(some)) or environment(some))
    monkeypatch.setattr(batches, "ATOMS_AT_ONCE", 8)
    many = p.evaluate(frames)
    assert together == [2, 2, 1]  # 3 + 5 atoms, 4 + 6, 2: memory does not grow with the list
    for one, frame in zip(many, frames, strict=True):
        for ours, theirs in zip(one, p.evaluate(frame), strict=True):
            assert_allclose(ours, theirs, rtol=0, atol=1e-13)  # the same sums, in another order
    assert p.evaluate([]) == []


def test_weights_are_checked():
    p = potential_for(np.random.default_rng(20))
    with pytest.raises(InputError, match=r"weights has shape \(3,\); expected"):
        p.weights = np.zeros(3)
    bad = p.weights.copy()
    bad[0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        p.weights = bad
