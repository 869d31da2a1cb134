"""An energy per type in a NEP4, which has no place for one: a neuron that is 1 whatever q is.

NEP4 has one bias for all types. A neuron with a row of zeros in W0 and a bias of 40 gives tanh 40, which is 1
in float64 and in float32; its output weight w1 is then a constant of its type.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kalmandp.potentials.nep.form import BIAS, NEPForm

#: tanh of this is 1.
SATURATED = 40.0


def saturated_neuron(form: NEPForm, weights, bias_t):
    """A NEP4 with one more neuron that adds ``bias_t``; NEP3 becomes NEP4, its net that of every type."""
    new_form = replace(form, version=4, neuron=form.neuron + 1)
    old, new = form.layout(), new_form.layout()
    w = np.zeros(new.size)
    for t in range(form.n_types):
        for name in (f"c_radial.{t}", f"c_angular.{t}"):
            new.view(w, name)[...] = old.view(weights, name)
        (to, to_out), (of, of_out) = new.fitting(w, t), old.fitting(weights, t)
        to.W[:, :-1], to.b[:-1], to_out.W[:-1] = of.W, of.b, of_out.W
        to.b[-1], to_out.W[-1] = SATURATED, bias_t[t]
    new.view(w, BIAS)[...] = old.view(weights, BIAS)
    return new_form, w


def fold_neuron(form: NEPForm, weights, q_scaler, bias_t):
    """Take out a neuron that is 1 in every type's net: the inverse of `saturated_neuron`.

    Returns form, weights, q_scaler and bias_t, as they were if there is no such neuron.
    """
    nets = [form.layout().fitting(weights, t) for t in range(form.n_types)]
    last = [hidden.W[:, -1].any() or np.tanh(hidden.b[-1]) != 1.0 for hidden, _ in nets]
    if form.version != 4 or form.neuron < 2 or any(last):
        return form, weights, q_scaler, bias_t
    new_form = replace(form, neuron=form.neuron - 1)
    old, new = form.layout(), new_form.layout()
    w = np.zeros(new.size)
    bias_t = np.array(bias_t)
    for t in range(form.n_types):
        for name in (f"c_radial.{t}", f"c_angular.{t}"):
            new.view(w, name)[...] = old.view(weights, name)
        (to, to_out), (of, of_out) = new.fitting(w, t), old.fitting(weights, t)
        to.W[...], to.b[...], to_out.W[...] = of.W[:, :-1], of.b[:-1], of_out.W[:-1]
        bias_t[t] += of_out.W[-1, 0]
    new.view(w, BIAS)[...] = old.view(weights, BIAS)
    return new_form, w, q_scaler, bias_t
