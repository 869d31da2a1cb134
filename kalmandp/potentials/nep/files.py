"""GPUMD's nep.txt, read and written.

    nep4[_zbl] T El0 El1 …              3, 4 or 5
    zbl r_in r_out [factor]             only with _zbl; "0 0": flexible, parameters at the end
    cutoff rcR rcA MN_R MN_A            or rcR0 rcA0 rcR1 rcA1 … MN_R MN_A
    n_max nR nA
    basis_size KR KA
    l_max L f222 f1111 [f112 f123 f233 f134]
    ANN neu 0

and then one number a line: for each type (once in NEP3) W0 (neu, dim), b0, w1, and b_t in NEP5; b; c^R
(n, k, t1, t2); c^A the same; q_scaler; for the flexible ZBL ten numbers for each pair of types. In the file
biases are subtracted, E = Σ w1 tanh(W0 q − b0) − b_t − b; in w they are added, so they change sign here.

Dialects: MatPL writes "nep4" with one last bias per type in place of b, and no MN; GNEP writes nep5.
nep.restart, GPUMD's means and sigmas, has no header and is not read.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy as np

from kalmandp.errors import FileError, InputError, require
from kalmandp.files.replacing import naming, replacing
from kalmandp.potentials.nep.form import BIAS, NEPForm
from kalmandp.potentials.nep.saturated import fold_neuron, saturated_neuron
from kalmandp.potentials.nep.zbl import ZBL

#: Neighbour counts that are written if none are known: GPUMD makes its lists this long.
NEIGHBOURS = (500, 200)
#: 17 digits: a float64 is read back as it was.
NUMBER = "%.16e"


class NEPFile(NamedTuple):
    """What a nep.txt holds.

    form : `NEPForm`;  weights : (N,) w;  statistics : {"q_scaler": (dim,)};  bias_t : (T,) eV per atom
    neighbours : the counts MN_R, MN_A of its cutoff line, or None
    """

    form: NEPForm
    weights: np.ndarray
    statistics: dict[str, np.ndarray]
    bias_t: np.ndarray
    neighbours: tuple[int, int] | None = None


class _Header(NamedTuple):
    form: dict[str, Any]
    flexible: bool
    neighbours: tuple[int, int] | None
    lines: int


def read_nep(path) -> NEPFile:
    """Read a nep.txt.

    An energy offset per type that `write_nep` put into a neuron is taken out of it again (``bias_t``).

    Raises
    ------
    FileError
        For a file that is no NEP, of another kind (dipole, charge, …), cut short, or whose numbers are not as
        many as its header says.
    """
    path = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.split() for line in file if line.strip()]
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: is not a text file; expected GPUMD's nep.txt") from None
    header = _read_header(path, lines)
    form = _make(path, header.form)
    numbers = _read_numbers(path, lines[header.lines :], header.lines)
    form, weights, bias_t, rest = _read_weights(path, form, numbers, header.flexible)
    q_scaler = rest[: form.size]
    if header.flexible:
        pairs = rest[form.size :].reshape(-1, 10)
        form = _make(path, {**_fields(form), "zbl": {"pairs": pairs.tolist()}})
    form, weights, q_scaler, bias_t = fold_neuron(form, weights, q_scaler, bias_t)
    return NEPFile(form, weights, {"q_scaler": q_scaler}, bias_t, header.neighbours)


def write_nep(path, form: NEPForm, weights, statistics, bias_t=None, neighbours=NEIGHBOURS) -> None:
    """Write a nep.txt that GPUMD, calorine and others read.

    The energy of each type, ``bias_t`` (eV per atom), is added to b_t in NEP5 and to b if it is the same for
    all types. Otherwise NEP4 gets one more neuron that is 1 for every q, with w1 = bias_t; NEP3, whose one
    net cannot hold it, is written as NEP4 with that net for every type.

    Parameters
    ----------
    path : overwritten if it is there, once the new file is whole
    form, weights, statistics : of the model
    bias_t : (T,) eV, or None for zeros
    neighbours : MN_R, MN_A, the largest neighbour counts
    """
    weights, q_scaler, bias_t = _checked(form, weights, statistics, bias_t)
    shared = bool((bias_t == bias_t[0]).all())
    if form.version < 5 and not shared:
        form, weights = saturated_neuron(form, weights, bias_t)
        bias_t = np.zeros_like(bias_t)
    numbers = _file_numbers(form, weights, bias_t)
    parts = [*numbers, q_scaler]
    if form.zbl is not None and form.zbl.pairs is not None:
        parts.append(np.ravel(form.zbl.pairs))
    lines = [*_header_lines(form, neighbours), *(NUMBER % x for part in parts for x in part)]
    with replacing(path) as beside, naming(path), open(beside, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def cut_types(file: NEPFile, type_map) -> NEPFile:
    """The model of some types only, in the order of ``type_map``: same energies, q_scaler kept.

    Examples
    --------
    A file of 89 elements, cut to two of them for fine-tuning::

        model = cut_types(read_nep("nep89.txt"), ("Pb", "Te"))

    Raises
    ------
    InputError
        For a type that the file does not have.
    """
    old = file.form
    missing = [name for name in type_map if name not in old.type_map]
    require(
        not missing,
        "a type that is wanted",
        ", ".join(missing),
        f"types of the file: {', '.join(old.type_map)}",
    )
    kept = [old.type_map.index(name) for name in type_map]
    zbl = old.zbl
    if zbl is not None and zbl.pairs is not None:
        T, rows = old.n_types, iter(zbl.pairs)
        row = {frozenset((t, u)): next(rows) for t in range(T) for u in range(t, T)}
        pairs = [row[frozenset((t, u))] for a, t in enumerate(kept) for u in kept[a:]]
        zbl = ZBL(pairs=tuple(pairs))
    form = NEPForm(**{
        **_fields(old), "type_map": tuple(type_map), "zbl": zbl,
        "radial_cutoff": tuple(old.radial_cutoff[t] for t in kept),
        "angular_cutoff": tuple(old.angular_cutoff[t] for t in kept),
    })  # fmt: skip
    layout, old_layout = form.layout(), old.layout()
    weights = np.empty(layout.size)
    for new, t in enumerate(kept):
        for name in ("c_radial", "c_angular"):
            layout.view(weights, f"{name}.{new}")[...] = old_layout.view(file.weights, f"{name}.{t}")[
                ..., kept
            ]
        for to, of in zip(layout.fitting(weights, new), old_layout.fitting(file.weights, t), strict=True):
            to.W[...], to.b[...] = of.W, of.b
    return NEPFile(form, weights, dict(file.statistics), file.bias_t[kept], file.neighbours)


def _fields(form: NEPForm) -> dict[str, Any]:
    return {name: getattr(form, name) for name in form.__dataclass_fields__}


def _make(path: str, fields: dict[str, Any]) -> NEPForm:
    try:
        return NEPForm(**fields)
    except InputError as error:
        raise FileError(f"{path}: {error}") from None


# reading


def _read_header(path: str, lines: list[list[str]]) -> _Header:
    place = 0

    def line(key: str, counts, wanted: str) -> list[str]:
        nonlocal place
        words = lines[place] if place < len(lines) else []
        if not words or words[0] != key or len(words) - 1 not in counts:
            got = " ".join(words)[:80] or "the end of the file"
            raise FileError(f"{path}: line {place + 1} is {got!r}; expected {wanted}")
        place += 1
        return words[1:]

    first = lines[0] if lines else [""]
    kind = re.fullmatch(r"nep(\d+)((?:_[a-z]+\d*)*)", first[0])
    if kind is None:
        raise FileError(
            f"{path}: line 1 is {' '.join(first)[:80]!r}; expected nep3, nep4 or nep5 and the types"
        )
    version, kinds = int(kind[1]), [x for x in kind[2].split("_") if x]
    other = [x for x in kinds if x != "zbl"]
    if other:
        raise FileError(
            f"{path}: is a NEP of another kind, {first[0]} ({', '.join(other)}); expected a potential: "
            "nep3, nep4 or nep5, with or without _zbl"
        )
    if version not in (3, 4, 5):
        raise FileError(f"{path}: is of version {version}; expected nep3, nep4 or nep5")
    n_types = _integer(path, 0, first[1] if len(first) > 1 else "")
    types = first[2:]
    if n_types < 1 or len(types) != n_types:
        raise FileError(f"{path}: line 1 names {len(types)} types; expected {n_types}, as it says")
    place = 1
    fields: dict[str, Any] = {"type_map": tuple(types), "version": version}
    flexible = False
    if "zbl" in kinds:
        zbl = [_real(path, place, x) for x in line("zbl", (2, 3), '"zbl r_in r_out [factor]"')]
        flexible = zbl[:2] == [0.0, 0.0]
        if not flexible:
            try:
                fields["zbl"] = ZBL(zbl[0], zbl[1], zbl[2] if len(zbl) > 2 else None)
            except InputError as error:
                raise FileError(f"{path}: {error}") from None
    counts = {2, 4, 2 * n_types, 2 * n_types + 2}
    wanted = '"cutoff" with a radial and an angular one (or two per type) and two neighbour counts'
    cutoff = [_real(path, place, x) for x in line("cutoff", counts, wanted)]
    # two types: four numbers are two cut-offs and two counts
    per_type = n_types if len(cutoff) >= 2 * n_types and len(cutoff) not in (2, 4) else 1
    fields["radial_cutoff"] = tuple(cutoff[0 : 2 * per_type : 2])
    fields["angular_cutoff"] = tuple(cutoff[1 : 2 * per_type : 2])
    seen = cutoff[2 * per_type :]
    for key, most in (("n_max", 2), ("basis_size", 2), ("l_max", 7)):
        allowed = range(1, 8) if key == "l_max" else (2,)
        words = line(key, allowed, f'"{key}" and {"1 to 7" if most == 7 else most} whole numbers')
        fields[key] = tuple(_integer(path, place - 1, x) for x in words)
    words = line("ANN", (1, 2), '"ANN" and the number of neurons')
    fields["neuron"] = _integer(path, place - 1, words[0])
    if len(words) > 1 and _integer(path, place - 1, words[1]) != 0:
        raise FileError(
            f"{path}: has two hidden layers (ANN {' '.join(words)}); expected one (ANN {words[0]} 0)"
        )
    return _Header(fields, flexible, (int(seen[0]), int(seen[1])) if seen else None, place)


def _integer(path: str, place: int, word: str) -> int:
    if not re.fullmatch(r"\d{1,9}", word):
        raise FileError(f"{path}: line {place + 1} has {word!r}; expected a whole number")
    return int(word)


def _real(path: str, place: int, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise FileError(f"{path}: line {place + 1} has {word!r}; expected a finite number")
    return value


def _read_numbers(path: str, lines: list[list[str]], before: int) -> np.ndarray:
    try:
        numbers = np.array([word for line in lines for word in line], dtype=np.float64)
    except ValueError:
        numbers = np.full(1, np.nan)
    if not np.isfinite(numbers).all():  # find the line
        for place, line in enumerate(lines, start=before):
            for word in line:
                _real(path, place, word)
    return numbers


def _read_weights(path: str, form: NEPForm, numbers, flexible: bool):
    """The form (NEP5 for MatPL's files), w, bias_t, and the numbers that come after the weights."""
    T, nets = form.n_types, 1 if form.version == 3 else form.n_types
    net = (form.size + 2) * form.neuron + (form.version == 5)
    c = T * T * sum(n * k for n, k in form.basis)
    repulsion = 10 * (T * (T + 1) // 2) if flexible else 0
    total = nets * net + 1 + c + form.size + repulsion
    matpl = form.version == 4 and len(numbers) == total + T - 1
    last = T if matpl else 1
    if len(numbers) != total and not matpl:
        how = "is cut short" if len(numbers) < total else "has too many numbers"
        raise FileError(
            f"{path}: {how}: {len(numbers)} follow its header; expected {total}, as the header says"
        )
    file_nets = numbers[: nets * net].reshape(nets, net)
    biases = numbers[nets * net : nets * net + last]
    at = nets * net + last
    matpl = matpl and T > 1
    if matpl:
        form = NEPForm(**{**_fields(form), "version": 5})
    layout = form.layout()
    w = np.empty(layout.size)
    for t in range(nets):
        hidden, out = layout.fitting(w, t)
        neu, dim = form.neuron, form.size
        hidden.W[...] = file_nets[t, : neu * dim].reshape(neu, dim).T
        hidden.b[...] = -file_nets[t, neu * dim : neu * (dim + 1)]
        out.W[...] = file_nets[t, neu * (dim + 1) : neu * (dim + 2), None]
        if form.version == 5:
            own = 0.0 if matpl else file_nets[t, -1]
            out.b[...] = -own - biases[t if matpl else 0]
    if form.version < 5:
        layout.view(w, BIAS)[...] = -biases
    for name, (n, k) in zip(("c_radial", "c_angular"), form.basis, strict=True):
        c_nktu = numbers[at : at + n * k * T * T].reshape(n, k, T, T)
        at += c_nktu.size
        for t in range(T):
            layout.view(w, f"{name}.{t}")[...] = c_nktu[:, :, t]
    return form, w, np.zeros(T), numbers[at:]


# writing


def _checked(form: NEPForm, weights, statistics, bias_t):
    size = form.layout().size
    weights = np.asarray(weights, dtype=np.float64)
    q_scaler = np.asarray(statistics["q_scaler"], dtype=np.float64)
    bias_t = np.zeros(form.n_types) if bias_t is None else np.asarray(bias_t, dtype=np.float64)
    for name, got, wanted in (
        ("weights", weights, (size,)),
        ("q_scaler", q_scaler, (form.size,)),
        ("bias_t", bias_t, (form.n_types,)),
    ):
        require(got.shape == wanted, f"the shape of {name}", got.shape, wanted)
        require(bool(np.isfinite(got).all()), name, "not finite", "finite numbers")
    return weights, q_scaler, bias_t


def _file_numbers(form: NEPForm, w, bias_t) -> list[np.ndarray]:
    """The weights in the order and with the signs of the file."""
    layout, parts = form.layout(), []
    for t in range(1 if form.version == 3 else form.n_types):
        hidden, out = layout.fitting(w, t)
        parts += [hidden.W.T.ravel(), -hidden.b, out.W[:, 0]]
        if form.version == 5:
            parts.append(-(out.b + bias_t[t]))
    # the types' energies are in b_t or, if they are all the same, in b
    parts.append(np.zeros(1) if form.version == 5 else -(layout.view(w, BIAS) + bias_t[0]))
    for name in ("c_radial", "c_angular"):
        c_nktu = np.stack([layout.view(w, f"{name}.{t}") for t in range(form.n_types)], axis=2)
        parts.append(c_nktu.ravel())
    return parts


def _header_lines(form: NEPForm, neighbours) -> list[str]:
    join = lambda *values: " ".join(f"{x:.17g}" if isinstance(x, float) else str(x) for x in values)
    lines = [join(f"nep{form.version}" + ("_zbl" if form.zbl else ""), form.n_types, *form.type_map)]
    zbl = form.zbl
    if zbl is not None:
        more = () if zbl.factor is None else (zbl.factor,)
        lines.append("zbl 0 0" if zbl.pairs is not None else join("zbl", zbl.inner, zbl.outer, *more))
    one = len(set(form.radial_cutoff)) == len(set(form.angular_cutoff)) == 1
    both = list(zip(form.radial_cutoff, form.angular_cutoff, strict=True))[: 1 if one else None]
    lines.append(join("cutoff", *(x for pair in both for x in pair), *neighbours))
    lines.append(join("n_max", *form.n_max))
    lines.append(join("basis_size", *form.basis_size))
    L, f222, f1111, *new = form.l_max
    # older readers take 2 for "on" and know no further numbers; newer ones take 1
    if any(new):
        lines.append(join("l_max", L, f222, f1111, *new))
    else:
        lines.append(join("l_max", L, 2 * f222, f1111))
    lines.append(join("ANN", form.neuron, 0))
    return lines
