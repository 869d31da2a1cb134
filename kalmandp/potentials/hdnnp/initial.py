"""The weights that training begins with: ours, and n2p2's with its random numbers.

Ours: inputs are standardised, and the sum into every neuron has a spread of about 1: W ~ N(0, 1/n_in), b ~
N(0, ¼) in hidden layers; the last layer W ~ N(0, 1/n_in), b = 0.

n2p2's: w = weights_min + u (weights_max − weights_min) with u uniform in [0, 1), then

- as it is by default: the weights of a tanh layer are multiplied by √(6/(n_in + n_out)), all biases are 0;
- Nguyen–Widrow: with β = 0.7 n_out^(1/n_in) in a hidden layer, the weights into a neuron become β/|w| times
  themselves, its bias β times; both twice that in a tanh layer. Of the output layer only the first weight is
  halved (so the program does it), and its bias is left.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kalmandp.errors import require
from kalmandp.potentials.hdnnp.files import file_order
from kalmandp.potentials.hdnnp.form import HDNNPForm


def initial_weights(form: HDNNPForm, rng: np.random.Generator) -> np.ndarray:
    """Our first weights, (N,) in the order of ``form.layout()``."""
    layout = form.layout()
    w = np.empty(layout.size)
    last = f".layer.{len(form.hidden)}"
    for tensor in layout.tensors:
        is_last = tensor.layer.endswith(last)
        if tensor.kind == "W":
            spread = 1.0 / np.sqrt(tensor.shape[0])
            if form.normalize_nodes:
                spread *= tensor.shape[0]
            if is_last:  # energies of the spread 1 eV, whatever the net's unit is
                spread /= layout.nets[tensor.net][-1].gain
        else:
            spread = 0.0 if is_last else 0.5
        w[tensor.start : tensor.stop] = rng.normal(0.0, 1.0, tensor.size) * spread
    return w


def n2p2_weights(
    form: HDNNPForm, draws, weights_min: float = -1.0, weights_max: float = 1.0, nguyen_widrow: bool = False
) -> np.ndarray:
    """n2p2's first weights, (N,), from its random numbers.

    Parameters
    ----------
    form : HDNNPForm
    draws : for each element its numbers in [0, 1), in the order of its weights file
    weights_min, weights_max : the range of the weights
    nguyen_widrow : the keyword nguyen_widrow_weights_short
    """
    require(weights_min < weights_max, "weights_max", weights_max, f"more than weights_min, {weights_min}")
    w = np.empty(form.layout().size)
    for t, order in enumerate(file_order(form)):
        u = np.asarray(draws[t], dtype=float)
        require(u.shape == order.shape, f"draws of {form.type_map[t]}", u.shape, order.shape)
        numbers = weights_min + u * (weights_max - weights_min)
        start = 0
        widths = (form.size_t[t], *form.hidden, 1)
        for l, (n_in, n_out) in enumerate(pairwise(widths)):
            W = numbers[start : start + n_in * n_out].reshape(n_in, n_out)
            b = numbers[start + n_in * n_out : start + (n_in + 1) * n_out]
            start += (n_in + 1) * n_out
            tanh, last = form.activations[l] == "tanh", l == len(form.hidden)
            if not nguyen_widrow:
                W *= np.sqrt(6.0 / (n_in + n_out)) if tanh else 1.0
                b[:] = 0.0
            elif last:
                W[0, 0] *= 0.5
            else:
                beta = 0.7 * n_out ** (1.0 / n_in) * (2.0 if tanh else 1.0)
                W *= beta / np.sqrt((W * W).sum(0))
                b *= beta
        w[order] = numbers
    return w


def n2p2_draws(form: HDNNPForm, random_seed: int) -> list[np.ndarray]:
    """The random numbers that n2p2 draws for a random_seed, element by element.

    A Mersenne twister (MT19937) seeded with random_seed gives one number, and that the seed of L'Ecuyer's
    combined Tausworthe generator taus88, whose numbers over 2³² are the draws. (Math. Comp. 65, 203 (1996);
    the state is filled by s ← 69069 s mod 2³² and six numbers are thrown away, as the GSL does.)
    """
    seed = int(np.random.RandomState(random_seed).randint(0, 2**32, dtype=np.uint64)) & 0xFFFFFFFF
    numbers = _taus88(seed)
    for _ in range(6):
        next(numbers)
    return [np.array([next(numbers) / 2.0**32 for _ in order]) for order in file_order(form)]


def _taus88(seed: int):
    mask = 0xFFFFFFFF
    state, s = [], seed or 1
    for _ in range(3):
        s = (69069 * s) & mask
        state.append(s)
    one, two, three = state
    while True:
        one = (((one & 0xFFFFFFFE) << 12) & mask) ^ ((((one << 13) & mask) ^ one) >> 19)
        two = (((two & 0xFFFFFFF8) << 4) & mask) ^ ((((two << 2) & mask) ^ two) >> 25)
        three = (((three & 0xFFFFFFF0) << 17) & mask) ^ ((((three << 3) & mask) ^ three) >> 11)
        yield one ^ two ^ three
