"""n2p2's ``input.nn``: the form of a model and the settings of its training, read and written.

A line is a keyword and its values; # or ! begins a comment. Symmetry functions::

    symfunction_short C 2  N      eta rs rc
    symfunction_short C 3  N1 N2  eta lambda zeta rc [rs]          also 9
    symfunction_short C 20 N      rl rc sub
    symfunction_short C 21 N1 N2  rl rc left right sub             also 22

Source: n2p2's documentation, "Configuration keywords".
"""

from __future__ import annotations

import difflib
from typing import NamedTuple, NoReturn

import numpy as np

from kalmandp.errors import FileError, InputError
from kalmandp.frames.elements import NUMBER
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.keywords import (
    ALIASES,
    LETTERS,
    MODEL,
    REFUSED,
    RUNNER,
    TRAINING,
    USUAL,
    words_of,
)
from kalmandp.potentials.hdnnp.symmetry_functions import RADIAL, SymmetryFunction, checked_function
from kalmandp.potentials.hdnnp.units import atom_energies_of, unit_sizes, units_name

#: Element-weighted functions of n2p2, which are not done here.
WEIGHTED = (12, 13, 23, 24, 25)


class InputNN(NamedTuple):
    """An input.nn as it was read.

    form : HDNNPForm;  atom_energy_t : of each element, in the unit of the file
    training : keyword -> its values as text, "" for a keyword that stands alone
    """

    form: HDNNPForm
    atom_energy_t: np.ndarray
    training: dict[str, str]


class _Lines(dict):
    """keyword -> [(line number, values)], and errors that name the file and the line."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def fail(self, number, text) -> NoReturn:
        raise FileError(f"{self.path} line {number}: {text}")

    def one(self, keyword, fewest=1, most=None):
        """The values of a keyword that stands once: from ``fewest`` to ``most``, None for any number."""
        found = self.get(keyword)
        if not found:
            raise FileError(f"{self.path}: there is no {keyword} ({MODEL[keyword]}); expected one")
        if len(found) > 1:
            self.fail(found[1][0], f"{keyword} a second time; expected it once")
        number, values = found[0]
        if len(values) < fewest or (most is not None and len(values) > most):
            upper = "" if most == fewest else " or more" if most is None else f" to {most}"
            self.fail(number, f"{keyword} with {len(values)} values; expected {fewest}{upper}")
        return values

    def number(self, keyword, default=None, kind=float, least=None):
        """The number of a keyword that stands once."""
        if default is not None and keyword not in self:
            return default
        [value] = self.one(keyword, 1, 1)
        return self.value(self[keyword][0][0], keyword, value, kind, least)

    def value(self, number, what, text, kind=float, least=None):
        """A finite number, of at least ``least`` if that is given."""
        wanted = "a whole number" if kind is int else "a finite number"
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value) or (least is not None and value < least):
            bound = "" if least is None else f" ≥ {least}"
            self.fail(number, f"{what} is {text!r}; expected {wanted}{bound}")
        return value


def parse_input_nn(text: str, path="input.nn", units: str = "atomic") -> InputNN:
    """The form and the training settings of an input.nn.

    Parameters
    ----------
    text : of the file
    path : what messages call it
    units : "atomic" (bohr, hartree) or "metal" (Å, eV); the file does not say

    Raises
    ------
    FileError
        For a keyword that is unknown or asks for another kind of model, a value that cannot be used, an
        element that is missing. The message names file and line.
    """
    lines = _split(text, path)
    names = lines.one("elements")
    count = lines.number("number_of_elements", len(names), int)
    if count != len(names):
        lines.fail(lines["elements"][0][0], f"{len(names)} elements; number_of_elements says {count}")
    for name in names:
        if name not in NUMBER:
            lines.fail(lines["elements"][0][0], f"element {name!r} is unknown; expected symbols of elements")
        if names.count(name) > 1:
            lines.fail(lines["elements"][0][0], f"element {name} twice; expected each once")
    type_map = sorted(names, key=NUMBER.__getitem__)
    functions: dict[str, list] = {name: [] for name in type_map}
    for number, values in lines.get("symfunction_short", ()):
        centre, f = _function(lines, number, values, type_map)
        functions[centre].append(f)
    for name, rows in functions.items():
        if not rows:
            raise FileError(f"{path}: element {name} has no symfunction_short; expected at least one")
    length_unit, energy_unit = unit_sizes(units)
    try:
        form = HDNNPForm(
            tuple(type_map), tuple(tuple(functions[name]) for name in type_map),
            **_cutoff(lines), **_scaling(lines), **_net(lines), **_normalisation(lines),
            length_unit=length_unit, energy_unit=energy_unit,
        )  # fmt: skip
    except InputError as error:
        raise FileError(f"{path}: {error}") from None
    energy: dict[str, float] = {}
    for number, values in lines.get("atom_energy", ()):
        if len(values) != 2 or values[0] not in type_map:
            lines.fail(number, f"atom_energy {' '.join(values)}; expected one of {type_map} and a number")
        if values[0] in energy:
            lines.fail(number, f"atom_energy of {values[0]} a second time; expected it once")
        energy[values[0]] = lines.value(number, f"atom_energy of {values[0]}", values[1])
    for keyword in set(lines) & set(TRAINING):
        if len(lines[keyword]) > 1:
            lines.fail(lines[keyword][1][0], f"{keyword} a second time; expected it once")
    training = {k: " ".join(v[0][1]) for k, v in lines.items() if k in TRAINING}
    return InputNN(form, np.array([energy.get(name, 0.0) for name in type_map]), training)


def _split(text: str, path) -> _Lines:
    lines = _Lines(path)
    for number, line in enumerate(text.splitlines(), start=1):
        words = words_of(line)
        if not words:
            continue
        keyword, values = ALIASES.get(words[0], words[0]), words[1:]
        if values and values[0] in USUAL.get(keyword, ()):
            continue
        if keyword in REFUSED:
            lines.fail(number, f"{keyword} means: {REFUSED[keyword]}. This model has no such part")
        if keyword not in MODEL and keyword not in TRAINING and keyword not in RUNNER:
            close = difflib.get_close_matches(keyword, [*MODEL, *TRAINING, *REFUSED], n=1)
            meant = "".join(f"; did you mean {k} ({ {**MODEL, **TRAINING, **REFUSED}[k] })?" for k in close)
            lines.fail(number, f"keyword {keyword!r} is unknown; expected one of n2p2's{meant}")
        lines.setdefault(keyword, []).append((number, values))
    return lines


def _function(lines: _Lines, number: int, values: list[str], type_map) -> tuple[str, SymmetryFunction]:
    """Centre and function of one symfunction_short."""
    text = " ".join(["symfunction_short", *values])
    try:
        centre, kind = values[0], int(values[1])
    except (IndexError, ValueError):
        lines.fail(number, f"{text!r}; expected symfunction_short, an element, a type, …")
    if kind in WEIGHTED:
        lines.fail(number, f"type {kind} is an element-weighted function, which this model does not have")
    if kind not in (2, 3, 9, 20, 21, 22):
        lines.fail(number, f"type {kind} is unknown; expected 2, 3, 9, 20, 21 or 22")
    n = 1 if kind in RADIAL else 2
    neighbours, rest = values[2 : 2 + n], values[2 + n :]
    for name in (centre, *neighbours):
        if name not in type_map:
            lines.fail(number, f"{text!r} names {name}, which is not among elements {' '.join(type_map)}")
    columns = {
        2: ("eta", "rs", "rc"), 3: ("eta", "lam", "zeta", "rc", "rs"), 9: ("eta", "lam", "zeta", "rc", "rs"),
        20: ("rl", "rc", "sub"),
        21: ("rl", "rc", "left", "right", "sub"), 22: ("rl", "rc", "left", "right", "sub"),
    }[kind]  # fmt: skip
    fewest = len(columns) - (kind in (3, 9))
    if not fewest <= len(rest) <= len(columns):
        lines.fail(number, f"{text!r} has {len(rest)} values at its end; expected {' '.join(columns)}")
    try:
        fields = {c: v if c == "sub" else float(v) for c, v in zip(columns, rest, strict=False)}
    except ValueError:
        lines.fail(number, f"{text!r}: not all of {' '.join(rest)} are numbers")
    f = SymmetryFunction(kind, tuple(neighbours), **fields)  # type: ignore[arg-type]
    try:
        return centre, checked_function(f, type_map)
    except InputError as error:
        lines.fail(number, str(error))


def _cutoff(lines: _Lines) -> dict:
    kind, *alpha = lines.one("cutoff_type", 1, 2)
    number = lines["cutoff_type"][0][0]
    return {
        "cutoff_kind": lines.value(number, "cutoff_type", kind, int),
        "cutoff_alpha": lines.value(number, "alpha of cutoff_type", alpha[0]) if alpha else 0.0,
    }


def _scaling(lines: _Lines) -> dict:
    scale, sigma = "scale_symmetry_functions" in lines, "scale_symmetry_functions_sigma" in lines
    center = "center_symmetry_functions" in lines
    if sigma and (scale or center):
        number = lines["scale_symmetry_functions_sigma"][0][0]
        lines.fail(number, "scale_symmetry_functions_sigma beside another scaling; expected one")
    two = {
        (True, True): "scale+center",
        (True, False): "scale",
        (False, True): "center",
        (False, False): "none",
    }
    kind = "sigma" if sigma else two[scale, center]
    low, high = lines.number("scale_min_short", 0.0), lines.number("scale_max_short", 1.0)
    return {"scaling": kind, "scale_min": low, "scale_max": high}


def _net(lines: _Lines) -> dict:
    layers = lines.number("global_hidden_layers_short", kind=int, least=0)
    widths = lines.one("global_nodes_short", layers, layers)
    line = lines["global_nodes_short"][0][0]
    hidden = tuple(lines.value(line, "global_nodes_short", width, int, least=1) for width in widths)
    letters = lines.one("global_activation_short", layers + 1, layers + 1)
    for letter in letters:
        if letter not in LETTERS:
            number = lines["global_activation_short"][0][0]
            lines.fail(number, f"activation {letter!r} is unknown; expected one of {' '.join(LETTERS)}")
    return {
        "hidden": hidden,
        "activations": tuple(LETTERS[letter] for letter in letters),
        "normalize_nodes": "normalize_nodes" in lines,
    }


def _normalisation(lines: _Lines) -> dict:
    names = ("mean_energy", "conv_energy", "conv_length")
    stated = [name for name in names if name in lines]
    if stated and len(stated) < 3:
        raise FileError(f"{lines.path}: has {', '.join(stated)} only; expected {' '.join(names)} or none")
    return {name: lines.number(name) for name in stated}


def format_input_nn(form: HDNNPForm, bias_t, training: dict[str, str] | None = None) -> str:
    """The text of an input.nn; numbers keep all their digits.

    Parameters
    ----------
    form : HDNNPForm
    bias_t : (n_types,) eV, from which atom_energy follows
    training : keyword -> values, further lines
    """
    letter = {name: key for key, name in LETTERS.items()}
    unwritable = [a for a in form.activations if a not in letter]
    if unwritable:
        raise InputError(f"activations are {list(form.activations)}; n2p2 knows {', '.join(letter)}")
    lines = [
        f"# units: {units_name(form)}",
        f"number_of_elements {form.n_types}",
        f"elements {' '.join(form.type_map)}",
        f"cutoff_type {form.cutoff_kind}" + (f" {form.cutoff_alpha!r}" if form.cutoff_alpha else ""),
        *(["scale_symmetry_functions_sigma"] if form.scaling == "sigma" else []),
        *(["scale_symmetry_functions"] if "scale" in form.scaling else []),
        *(["center_symmetry_functions"] if "center" in form.scaling else []),
        f"scale_min_short {form.scale_min!r}",
        f"scale_max_short {form.scale_max!r}",
        f"global_hidden_layers_short {len(form.hidden)}",
        f"global_nodes_short {' '.join(map(str, form.hidden))}",
        f"global_activation_short {' '.join(letter[a] for a in form.activations)}",
        *(["normalize_nodes"] if form.normalize_nodes else []),
    ]
    if (form.mean_energy, form.conv_energy, form.conv_length) != (0.0, 1.0, 1.0):
        lines += [f"{name} {getattr(form, name)!r}" for name in ("mean_energy", "conv_energy", "conv_length")]
        training = {k: v for k, v in (training or {}).items() if k != "normalize_data_set"}  # it is done
    for name, energy in zip(form.type_map, atom_energies_of(form, bias_t).tolist(), strict=True):
        if energy:
            lines.append(f"atom_energy {name} {energy!r}")
    for name, rows in zip(form.type_map, form.functions, strict=True):
        lines += [function_line(name, f) for f in rows]
    lines += [f"{keyword} {values}".rstrip() for keyword, values in (training or {}).items()]
    return "\n".join(lines) + "\n"


def function_line(centre: str, f: SymmetryFunction) -> str:
    """The symfunction_short line of a function."""
    numbers = {
        2: (f.eta, f.rs, f.rc),
        3: (f.eta, f.lam, f.zeta, f.rc, *([f.rs] if f.rs else [])),
        20: (f.rl, f.rc),
        21: (f.rl, f.rc, f.left, f.right),
    }[{9: 3, 22: 21}.get(f.kind, f.kind)]
    sub = [f.sub] if f.kind >= 20 else []
    return " ".join(["symfunction_short", centre, str(f.kind), *f.neighbours, *map(repr, numbers), *sub])
