"""The files of an n2p2 model: input.nn, scaling.data and weights.ZZZ.data in one folder.

scaling.data : element number, function number (both from 1), min, max, mean, sigma; # begins a comment
weights.ZZZ.data : ZZZ is the atomic number. One weight a line in the first column, layer by layer: for each
    neuron of the layer before, its weights to all neurons of the layer; then the layer's biases

Source: n2p2's documentation, "File formats".
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kalmandp.errors import FileError, require
from kalmandp.files.replacing import make_folder, naming, replacing
from kalmandp.frames.elements import NUMBER
from kalmandp.potentials.hdnnp.form import STATISTICS, HDNNPForm
from kalmandp.potentials.hdnnp.input_nn import InputNN, format_input_nn, parse_input_nn
from kalmandp.potentials.hdnnp.units import bias_of


class N2P2Model(NamedTuple):
    """A model as its folder holds it.

    weights : (N,) in the order of ``form.layout()``;  statistics : min, max, mean, sigma (n_types, d)
    bias_t : (n_types,) eV;  training : the other keywords of input.nn with their values
    """

    form: HDNNPForm
    weights: np.ndarray
    statistics: dict[str, np.ndarray]
    bias_t: np.ndarray
    training: dict[str, str]


def weights_name(element: str) -> str:
    """weights.ZZZ.data of an element."""
    return f"weights.{NUMBER[element]:03d}.data"


def read_folder(path, units: str = "atomic") -> N2P2Model:
    """Read a model of n2p2.

    Parameters
    ----------
    path : the folder
    units : "atomic" (bohr and hartree) or "metal" (Å and eV); the files do not say

    Raises
    ------
    FileError
        For a file that is missing, cut short, or belongs to another model. The message names it.
    """
    folder = Path(path)
    read = read_input_nn(folder / "input.nn", units)
    statistics = read_scaling(folder / "scaling.data", read.form)
    weights = read_weights(folder, read.form)
    return N2P2Model(read.form, weights, statistics, bias_of(read.form, read.atom_energy_t), read.training)


def read_input_nn(path, units: str = "atomic") -> InputNN:
    """The input.nn of that name; see `input_nn.parse_input_nn`."""
    return parse_input_nn(text_of(path), path, units)


def text_of(path) -> str:
    """The text of one of these files, in UTF-8 (comments may be in another encoding).

    Raises
    ------
    FileError
        If it is missing, a folder, empty, or no text.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FileError(f"{path}: is a folder; expected a file") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    require(b"\0" not in content, str(path), "not a text", "a text", FileError)
    require(content.strip() != b"", str(path), "empty", "lines of text", FileError)
    return content.decode("utf-8-sig", errors="replace")


def read_scaling(path, form: HDNNPForm) -> dict[str, np.ndarray]:
    """min, max, mean and sigma, (n_types, d), of a scaling.data.

    RuNNer's files have no sigma (taken as 0) and end with the range of energies, which is passed over.

    Raises
    ------
    FileError
        For functions that are missing or not in ``form``, numbers that cannot be, or no sigma where the
        form's scaling needs it. The message names the line.
    """
    statistics = {name: np.zeros(shape) for name, shape in form.statistics_shapes().items()}
    seen = np.zeros(next(iter(form.statistics_shapes().values())), dtype=int)
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words or len(words) == 2:
            continue
        try:
            t, d = int(words[0]) - 1, int(words[1]) - 1
            values = [float(x) for x in words[2:]]
        except ValueError:
            raise FileError(f"{path} line {number}: is {line.strip()[:40]!r}; expected numbers") from None
        if len(values) not in (3, 4) or not np.isfinite(values).all():
            seen_here = f"is {line.strip()[:60]!r}; expected two indices, then min, max, mean, sigma"
            raise FileError(f"{path} line {number}: {seen_here}")
        if values[0] > values[1]:
            wanted = f"at most max, {values[1]:g}"
            raise FileError(f"{path} line {number}: min is {values[0]:g}; expected {wanted}")
        if values[3:] and values[3] < 0:
            raise FileError(f"{path} line {number}: sigma is {values[3]:g}; expected a number ≥ 0")
        if len(values) == 3 and form.scaling == "sigma":
            raise FileError(
                f"{path} line {number}: has no sigma, which scale_symmetry_functions_sigma needs; expected "
                "two indices, then min, max, mean, sigma"
            )
        if not (0 <= t < form.n_types and 0 <= d < form.size_t[t]):
            raise FileError(
                f"{path} line {number}: function {d + 1} of element {t + 1}; input.nn has "
                + ", ".join(f"{n} for {name}" for n, name in zip(form.size_t, form.type_map, strict=True))
            )
        seen[t, d] += 1
        for name, value in zip(STATISTICS, values, strict=False):
            statistics[name][t, d] = value
    for t, size in enumerate(form.size_t):
        if not (seen[t, :size] == 1).all():
            raise FileError(
                f"{path}: has {int((seen[t] > 0).sum())} of the {size} functions of {form.type_map[t]}; "
                "expected each once (was it made with this input.nn?)"
            )
    return statistics


def format_scaling(form: HDNNPForm, statistics: dict[str, np.ndarray]) -> str:
    """The text of a scaling.data."""
    lines = ["# element index, function index, min, max, mean, sigma"]
    for t, size in enumerate(form.size_t):
        for d in range(size):
            numbers = " ".join(f"{statistics[name][t, d]:24.16E}" for name in STATISTICS)
            lines.append(f"{t + 1:10d} {d + 1:10d} {numbers}")
    return "\n".join(lines) + "\n"


def file_order(form: HDNNPForm) -> list[np.ndarray]:
    """For each element, where in w the numbers of its weights file lie, in the order of the file."""
    layout = form.layout()
    orders = []
    for t, size in enumerate(form.size_t):
        places, start = [], layout[f"fitting.{t}.layer.0.W"].start
        for n_in, n_out in pairwise((size, *form.hidden, 1)):
            # w holds W[source, target] column after column, the file row after row
            places.append(start + np.arange(n_in * n_out).reshape(n_out, n_in).T.ravel())
            start += n_in * n_out
            places.append(np.arange(start, start + n_out))
            start += n_out
        orders.append(np.concatenate(places))
    return orders


def read_weights(folder, form: HDNNPForm) -> np.ndarray:
    """w from the weights files of a folder."""
    weights = np.empty(form.layout().size)
    for name, order in zip(form.type_map, file_order(form), strict=True):
        path = Path(folder) / weights_name(name)
        numbers, columns = [], 0
        text = text_of(path)
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.split("#")[0].split()
            if not words:
                continue
            try:
                numbers.append(float(words[0]))
            except ValueError:
                raise FileError(
                    f"{path} line {number}: is {line.strip()[:40]!r}; expected a number first"
                ) from None
            if len(words) == 1 < columns and not text.endswith("\n") and len(numbers) == len(order):
                raise FileError(f"{path} line {number}: is {line.strip()[:40]!r}, cut short")
            columns = len(words)
        if len(numbers) != len(order):
            raise FileError(
                f"{path}: has {len(numbers)} weights; the net of {name} has {len(order)} "
                f"({' → '.join(map(str, (form.size_t[form.type_map.index(name)], *form.hidden, 1)))})"
            )
        if not np.isfinite(numbers).all():
            raise FileError(f"{path}: has weights that are not finite; expected finite numbers")
        weights[order] = numbers
    return weights


def format_weights(form: HDNNPForm, weights, t: int) -> str:
    """The text of an element's weights file: the weight, a or b, its number, layers and neurons it joins."""
    numbers = np.asarray(weights)[file_order(form)[t]]
    lines, k = ["# weight or bias, a or b, number, from layer, neuron, to layer, neuron"], 0
    for l, (n_in, n_out) in enumerate(pairwise((form.size_t[t], *form.hidden, 1))):
        for i in range(n_in):
            for j in range(n_out):
                lines.append(f"{numbers[k]:24.16E} a {k + 1:9d} {l:5d} {i + 1:5d} {l + 1:5d} {j + 1:5d}")
                k += 1
        for j in range(n_out):
            lines.append(f"{numbers[k]:24.16E} b {k + 1:9d} {l + 1:5d} {j + 1:5d}")
            k += 1
    return "\n".join(lines) + "\n"


def write_folder(
    path, form: HDNNPForm, weights, statistics, bias_t, training=None, *, overwrite: bool = True
) -> None:
    """Write a model as n2p2 reads it; every file is there as a whole or as it was.

    Parameters
    ----------
    path : a folder, made if it is not there
    form, weights, statistics, bias_t, training : as of `N2P2Model`
    overwrite : False refuses to replace a file

    Raises
    ------
    FileError
        If a file cannot be written.
    """
    weights = np.asarray(weights, dtype=float)
    n = form.layout().size
    require(weights.shape == (n,), "weights' shape", weights.shape, f"({n},)")
    make_folder(os.fspath(path))
    texts = {"scaling.data": format_scaling(form, statistics)}
    texts |= {weights_name(name): format_weights(form, weights, t) for t, name in enumerate(form.type_map)}
    texts["input.nn"] = format_input_nn(form, bias_t, training)
    for name, text in texts.items():
        place = Path(path) / name
        with replacing(place, overwrite=overwrite) as beside, naming(place):
            Path(beside).write_text(text, encoding="utf-8")
