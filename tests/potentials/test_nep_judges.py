"""The fourth judge: values that other programs made of random models (nep_judges/README.md)."""

from __future__ import annotations

import numpy as np
import pytest
from nep_support import Judge, environment, judge_models, parameters, predict
from numpy.testing import assert_allclose

from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials.atomic import energies, energy_gradient, weight_gradient
from kalmandp.potentials.nep.files import read_nep

#: Programs' tables for l up to 8 have about 12 digits; all others agree to rounding.
TOLERANCE = {"05_nep4_typecut_l8": 1e-11}


def close(got, wanted, tolerance):
    """Equal relative to the largest entry (at least 1)."""
    assert_allclose(got, wanted, rtol=0, atol=tolerance * max(1.0, float(np.abs(wanted).max(initial=0.0))))


@pytest.mark.parametrize("name", judge_models())
def test_energies_forces_virials_descriptors(name, tmp_path):
    judge = Judge(name, tmp_path)
    file = read_nep(judge.path)
    tolerance = TOLERANCE.get(name, 1e-12)
    for s, wanted in enumerate(judge.values):
        env = environment(file.form, file.statistics, judge.frame(s, file.form.type_map))
        got = predict(parameters(file.form, file.weights), env)
        close(got.E_i, wanted["energies"], tolerance)
        close(got.E_i.sum(), wanted["energy"], tolerance * 10)
        close(got.F_ic, wanted["forces"], tolerance)
        close(got.W_fdc[0], wanted["virial"], tolerance)
        close(got.q_id, wanted["descriptors_scaled"], tolerance)
        if "zbl_energies" in wanted:
            E_i, _ = env.fixed
            close(E_i, wanted["zbl_energies"], tolerance)


def file_direction(file, group):
    """δ of README as a direction of w: sin(k + 1) for the numbers of the group, through the reader."""
    # the reader is linear in the numbers of the file: read a file that holds δ
    from kalmandp.potentials.nep import files

    form = file.form
    nets = 1 if form.version == 3 else form.n_types
    ann = nets * ((form.size + 2) * form.neuron + (form.version == 5)) + 1
    radial, angular = (n * k * form.n_types**2 for n, k in form.basis)
    flexible = form.zbl is not None and form.zbl.pairs is not None
    rest = form.size + (10 * len(form.zbl.pairs) if flexible else 0)
    starts = {
        "ann": (0, ann),
        "c_radial": (ann, ann + radial),
        "c_angular": (ann + radial, ann + radial + angular),
    }
    numbers = np.zeros(ann + radial + angular + rest)
    a, b = starts[group]
    numbers[a:b] = np.sin(np.arange(a, b) + 1.0)
    return files._read_weights("", form, numbers, flexible)[1]


@pytest.mark.parametrize("name", judge_models())
def test_derivatives(name, tmp_path):
    """Along the stored directions: dE_i of single atoms, dF and dW in random combinations."""
    judge = Judge(name, tmp_path)
    file, rng = read_nep(judge.path), np.random.default_rng(5)
    par = parameters(file.form, file.weights)
    for s, wanted in enumerate(judge.values):
        env = environment(file.form, file.statistics, judge.frame(s, file.form.type_map))
        _, forward = energies(par, env)
        n = env.geometry.n_atoms
        atom, c_ic, C_dc = int(rng.integers(n)), rng.normal(size=(n, 3)), rng.normal(size=(3, 3))
        none = np.zeros(n)
        J = {
            "energies": energy_gradient(par, env, forward, np.eye(n)[atom]),
            "forces": weight_gradient(par, env, forward, none, force_direction(env.geometry, c_ic)),
            "virial": weight_gradient(par, env, forward, none, virial_direction(env.geometry, C_dc[None])),
        }
        for group in ("ann", "c_radial", "c_angular"):
            delta = file_direction(file, group)
            value = {key: wanted[f"{group}/{key}"] for key in J}
            close(J["energies"] @ delta, value["energies"][atom], 1e-9)
            scale = max(1.0, np.abs(value["forces"]).max())
            assert_allclose(
                J["forces"] @ delta,
                (c_ic * value["forces"]).sum(),
                rtol=0,
                atol=1e-9 * scale * np.sqrt(3 * n),
            )
            scale = max(1.0, np.abs(value["virial"]).max())
            assert_allclose(J["virial"] @ delta, (C_dc * value["virial"]).sum(), rtol=0, atol=3e-9 * scale)
