"""A Deep Potential whose sel grows: the same potential where davg is 0, near it elsewhere; never refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import frames, settings

import kalmandp
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.potentials.deep_potential.widening import widened
from kalmandp.training.config.inputs import read_input
from kalmandp.training.loop import Run

FEW = [16, 14]


def model(davg_zero: bool, **choices):
    """A Deep Potential made for the Morse crystal, ``sel`` as it needs."""
    return kalmandp.Potential.create(
        ("A", "B"), frames=frames(8), rng=np.random.default_rng(3), set_davg_zero=davg_zero,
        **{
            "rcut": 4.2, "rcut_smth": 1.0, "embedding": (3, 6), "axis_neuron": 2, "fitting": (5, 5),
            "type_one_side": True, "fitting_resnet_dt": False, **choices,
        },
    )  # fmt: skip


def denser(n: int = 6) -> list[Frame]:
    """The same crystal under pressure: more neighbours within the cut-off."""
    return [
        Frame(0.86 * f.positions, f.types, f.type_map, 0.86 * f.cell, energy=f.energy, forces=f.forces)
        for f in frames(n, seed=5)
    ]


def grown(potential, data, **choices):
    done = widened(potential.form, potential.weights, potential.statistics, data, choices)
    return done, potential.replace(form=done.form, weights=done.weights)


def test_without_davg_it_is_the_same_potential():
    """D' = (S/S')² D is taken up by the first layer, to rounding."""
    old = model(True)
    done, new = grown(old, denser())
    assert all(n > o for n, o in zip(new.form.sel, old.form.sel, strict=True))
    assert "energies and forces stay the same" in done.said
    for f in frames(3, seed=1):
        for value, wanted in zip(new.evaluate(f)[:3], old.evaluate(f)[:3], strict=True):
            assert_allclose(value, wanted, rtol=1e-10, atol=1e-11)
    new.evaluate(denser(1)[0])  # what the old one refuses
    with pytest.raises(InputError, match='Give a larger sel for the model, or sel "auto"'):
        old.evaluate(denser(1)[0])


def test_with_davg_it_stays_near():
    """The padding rows count: without the fit, energies and forces would be those of another model."""
    old = model(False)
    done, new = grown(old, frames(40, seed=2), sel=[2 * n for n in old.form.sel])
    said = float(done.said.split("change by ")[1].split(" meV")[0])
    naive = old.replace(form=new.form)
    errors = {}
    for name, other in (("fitted", new), ("naive", naive)):
        dE, dF, spread = [], [], []
        for f in frames(6, seed=1):
            a, b = old.evaluate(f), other.evaluate(f)
            dE.append(b.atomic_energies - a.atomic_energies)
            dF.append(b.forces - a.forces)
            spread.append(a.forces)
        rms = lambda parts: float(np.sqrt(np.mean(np.square(parts))))
        errors[name] = rms(dE), rms(dF) / rms(spread)
    assert errors["fitted"][0] < 0.1 * errors["naive"][0], errors
    assert errors["fitted"][1] < 0.3 * errors["naive"][1], errors
    assert 0.2 < said / (1e3 * errors["fitted"][0]) < 5.0, (said, errors)


def test_what_is_enough_is_left_alone():
    old = model(False)
    assert widened(old.form, old.weights, old.statistics, frames(4), {}) is None
    few = {"sel": [1, 1]}
    assert widened(old.form, old.weights, old.statistics, frames(4), few) is None
    done, _ = grown(old, frames(4), sel=[old.form.sel[0] + 8, 1])
    assert done.form.sel == (old.form.sel[0] + 8, old.form.sel[1])


def test_a_layer_that_hands_d_on_cannot_take_it_up():
    old = model(True, fitting=(12, 5))
    with pytest.raises(InputError, match=r"first layer of the fitting net is 12 wide beside 12 numbers"):
        widened(old.form, old.weights, old.statistics, denser(), {})


@pytest.mark.parametrize("option", ["init_model", "finetune"])
@pytest.mark.parametrize("davg_zero", [True, False])
def test_training_goes_on_with_denser_frames(tmp_path, option, davg_zero):
    """Before, a run stopped at the first frame with more neighbours, and the input's sel was not heard."""
    model(davg_zero).save(tmp_path / "model.dp")
    kalmandp.Dataset.write(tmp_path / "dense.h5", denser())
    tree = settings(tmp_path / "dense.h5")
    tree["model"] = {"type_map": ["A", "B"]}
    with pytest.warns(UserWarning, match=r"model\.dp: sel becomes \[.*\] \(it was "):
        run = Run(read_input(tree), tmp_path, **{option: tmp_path / "model.dp"})
    for _ in range(3):
        run.step()
    run.checkpoint()
    after = kalmandp.Potential.load(tmp_path / "model.dp")
    assert after.form.sel == run.potential.form.sel
    assert "sel becomes" in after.info["started from"]["changed"]
    assert np.isfinite(after.evaluate(denser(1)[0]).energy)
