"""HDNNP against values of n2p2's nnp-predict, for twenty models of random weights."""

from __future__ import annotations

import numpy as np
import pytest
from hdnnp_cases import Case, frame_of, judges, unpack
from numpy.testing import assert_allclose

from kalmandp.constants import BOHR, HARTREE
from kalmandp.potentials.hdnnp.environment import symmetry_functions
from kalmandp.potentials.hdnnp.files import read_folder

#: The judge's digits, relative to the largest entry (at least 1).
TOLERANCE = 1e-12


@pytest.mark.parametrize("units", ["metal", "atomic"])
@pytest.mark.parametrize("name", sorted(judges("models")))
def test_values_of_n2p2(name, units, tmp_path):
    judge = judges("models")[name]
    model = read_folder(unpack(judge["files"], tmp_path), units)
    # the files name no units: the same numbers are bohr and hartree, or Å and eV
    length, energy = {"metal": (1.0, 1.0), "atomic": (BOHR, HARTREE)}[units]

    def close(got, wanted, tolerance=TOLERANCE):
        wanted = np.asarray(wanted)
        assert_allclose(got, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max()))

    for s in judge["values"]["structures"]:
        case = Case(*model[:4], frame_of(s, model.form.type_map, length))
        G_id, _ = symmetry_functions(model.form, case.geometry, derivatives=False)
        for i, (G, q) in enumerate(zip(s["symmetry_functions"], s["symmetry_functions_scaled"], strict=True)):
            close(G_id[i, : len(G)], G)
            close(case.env.q_id[i, : len(q)], q)
        E_i = case.energies()
        close(E_i.sum() / energy, s["energy"])
        close((E_i - model.bias_t[case.geometry.types_i]) / energy, s["energies"])
        F_ic, wanted = case.forces(), np.array(s["forces"])
        close(F_ic * length / energy, wanted)
        if s["virial"] is not None:
            # five-point differences of energies, which have 9 digits left
            close(case.virial()[0] / energy, s["virial"], 2e-8)


@pytest.mark.parametrize("name", sorted(judges("models")))
def test_what_is_written_is_read_again(name, tmp_path):
    from kalmandp.potentials.hdnnp.files import write_folder

    model = read_folder(unpack(judges("models")[name]["files"], tmp_path / "one"), "metal")
    write_folder(tmp_path / "two", *model)
    again = read_folder(tmp_path / "two", "metal")
    assert again.form == model.form
    assert (again.weights == model.weights).all()
    assert_allclose(again.bias_t, model.bias_t, rtol=0, atol=1e-15 * np.abs(model.bias_t).max())
    for key, value in model.statistics.items():
        assert (again.statistics[key] == value).all()
    assert type(model.form)(**model.form.to_dict()) == model.form
