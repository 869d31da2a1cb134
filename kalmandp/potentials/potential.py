"""`Potential`: a model with its weights, and what a user asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.geometry.pairs import force_direction, virial_direction
from kalmandp.potentials.batches import batches
from kalmandp.potentials.energy_bias import RCOND, energy_bias
from kalmandp.potentials.protocol import Parameters
from kalmandp.registry import KINDS, MODEL_FILES, choose_engine, descriptor_of, form_class, kind_of, load


class Result(NamedTuple):
    """energy (eV), forces (n, 3) eV/Å, virial (3, 3) eV = −dE/dε, atomic_energies (n,) eV."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    atomic_energies: np.ndarray


class Potential:
    """A force field: energy, forces, virial, and their derivatives with respect to the weights.

    Parameters
    ----------
    form : the choices that fix its form; its class is that of a kind of potential (`registry.KINDS`)
    weights : (N,) float64, in the order of ``form.layout()``
    bias_atom_e, out_bias : (n_types,) eV; their sum is added to each atom's energy
    info : dict of notes that travel with the model file
    engine : "numba" (fused, threads) or "numpy" (the reference); by default the fused one where there is one
        for this form; "cuda" (fused) and "cupy" (the reference) are the same on a GPU
    device : "cpu" or "cuda", which decides the default engine; results are NumPy's in either case
    copy : False to keep ``weights`` itself, a C-ordered float64 array (of CuPy, for an engine on a GPU),
        instead of a copy: training then changes the caller's array in place
    statistics : the form's numbers from data by name, e.g. davg and dstd of a Deep Potential

    See Also
    --------
    Potential.create : a new one with random weights and statistics from data
    Potential.load : one from a model file
    """

    def __init__(
        self, form, weights, *, bias_atom_e, out_bias=None, info=None, engine=None, device="cpu", copy=True,
        **statistics,
    ):  # fmt: skip
        self.form, self.layout = form, form.layout()
        shapes = form.statistics_shapes()
        if set(statistics) != set(shapes):
            raise InputError(f"statistics are {sorted(statistics)}; expected {sorted(shapes)}")
        #: the form's numbers from data, by name
        self.statistics = {name: _finite(name, statistics[name], shape) for name, shape in shapes.items()}
        form.check_statistics(self.statistics)
        n_types = form.n_types
        self.bias_atom_e = _finite("bias_atom_e", bias_atom_e, (n_types,))
        self.out_bias = _finite("out_bias", np.zeros(n_types) if out_bias is None else out_bias, (n_types,))
        self.info = dict(info or {})
        self.engine = choose_engine(engine, device, form, self.layout)
        self._descriptor = descriptor_of(form)
        xp = self.engine.xp  # where the engine computes
        self._put, self._in_place = xp.asarray, not copy
        checked = _finite("weights", to_numpy(weights), (self.layout.size,))
        self._weights: Any = self._put(checked) if copy else _own(weights, xp)

    @classmethod
    def create(
        cls, type_map, *, kind="se_e2_a", frames=(), rng=None, atom_ener=None, rcond=None, engine=None,
        device="cpu", **choices,
    ):  # fmt: skip
        """A potential with random weights, its statistics taken from ``frames``.

        Parameters
        ----------
        type_map : names of the types
        kind : of potential, a name in `registry.KINDS`
        frames : iterable of Frame that can be gone through more than once (a Dataset, a list)
        rng : numpy Generator for the weights; required, so that runs can be repeated
        atom_ener : energies per type to keep instead of the least-squares bias, None where free
        rcond : for the least squares, see `energy_bias.energy_bias`
        engine, device : as for the class
        choices : what else the kind's function ``new`` takes: fields of its form, and how it begins

        Raises
        ------
        InputError
            For settings that do not fit together, or frames that cannot be used.

        Examples
        --------
        >>> import kalmandp
        >>> data = kalmandp.Dataset("data/si64_lda_train.h5")
        >>> Potential.create(data.type_map, rcut=4.0, frames=data[:2], rng=np.random.default_rng(1),
        ...                  embedding=(4, 8), axis_neuron=2, fitting=(8,))
        Potential('se_e2_a', type_map=['Si'], cutoff=4.0, weights=193)
        """
        if rng is None:
            raise InputError("rng is None; expected a numpy.random.Generator, e.g. default_rng(1)")
        form_class(kind)  # a name that is not known is named
        made = load(KINDS[kind].new)(type_map, frames, rng, **choices)
        if atom_ener is not None and tuple(type_map) != made.form.type_map:  # a kind may have its own order
            given = dict(zip(type_map, atom_ener, strict=True))
            atom_ener = [given[name] for name in made.form.type_map]
        bias = made.bias_t
        if bias is None:
            bias = energy_bias(frames, made.form.type_map, atom_ener, RCOND if rcond is None else rcond)
        return cls(
            made.form, made.weights, bias_atom_e=bias, info=made.info, engine=engine, device=device,
            **made.statistics,
        )  # fmt: skip

    @classmethod
    def load(cls, path, engine=None, device="cpu") -> Potential:
        """Read a model file of any kind; it is recognised by what it holds.

        Parameters
        ----------
        path : the file
        engine, device : as for the class

        Raises
        ------
        FileError, InputError
            If the file is missing or damaged, or holds a model of a kind that is not known.
        """
        potential = load(MODEL_FILES).read_model(path)
        return potential.with_engine(engine, device) if engine or device != "cpu" else potential

    def save(self, path) -> None:
        """Write the model file of this kind of potential, under another name first, which is then renamed.

        Parameters
        ----------
        path : the file; what is there is replaced

        Raises
        ------
        FileError
            If it cannot be written; what was there is then as it was.
        InputError
            For a suffix that belongs to the files of another kind.
        """
        files, suffix = load(kind_of(self.form).files), Path(path).suffix.lower()
        others = {ending for kind in KINDS.values() for ending in load(kind.files).SUFFIXES if ending}
        if suffix in others - set(files.SUFFIXES) and files.SUFFIXES:
            ends = " or ".join(ending or "no suffix" for ending in files.SUFFIXES)
            raise InputError(f"{path}: suffix is {suffix!r}; expected {ends}, for {files.FORMAT}")
        files.write(self, path)

    def state(self) -> dict[str, Any]:
        """What it is made of, to be stored: kind, form, info as plain values, and arrays by name."""
        return {
            "kind": self.form.kind,
            "form": self.form.to_dict(),
            "info": self.info,
            "arrays": {
                "weights": self.weights, **self.statistics, "bias_atom_e": self.bias_atom_e,
                "out_bias": self.out_bias,
            },
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: dict[str, Any], engine=None, device="cpu") -> Potential:
        """The potential that ``state`` was taken from.

        Parameters
        ----------
        state : what `state` returned, or the same read from a file
        engine, device : as for the class
        """
        arrays = dict(state["arrays"])
        form = form_class(state["kind"])(**state["form"])
        return cls(form, arrays.pop("weights"), info=state["info"], engine=engine, device=device, **arrays)

    def replace(self, **changes) -> Potential:
        """The same potential with some of its parts exchanged, computed by the same engine.

        Parameters
        ----------
        changes : any of form, weights, statistics (a dict), bias_atom_e, out_bias, info, engine, device
        """
        parts = {
            "form": self.form, "weights": self.weights, "bias_atom_e": self.bias_atom_e,
            "out_bias": self.out_bias, "info": self.info, "engine": self.engine.name, **changes,
        }  # fmt: skip
        statistics = parts.pop("statistics", self.statistics)
        return Potential(**parts, **statistics)

    def with_engine(self, engine: str | None, device="cpu") -> Potential:
        """The same potential, with a copy of the weights, computed by another engine.

        Parameters
        ----------
        engine, device : as for the class; None for the device's default engine
        """
        return self.replace(engine=engine, device=device)

    @property
    def type_map(self) -> tuple[str, ...]:
        """Names of the types, in the order of their numbers."""
        return self.form.type_map

    @property
    def weights(self) -> np.ndarray:
        """The flat vector w (N,), of NumPy; assigning checks shape and finiteness, and copies."""
        return to_numpy(self._weights)

    @weights.setter
    def weights(self, value) -> None:
        new = self._put(_finite("weights", to_numpy(value), (self.layout.size,)))
        if self._in_place:
            self._weights[...] = new
        else:
            self._weights = new

    def share_weights(self, weights) -> None:
        """Take ``weights`` as they are, without a copy: whoever changes them changes the model.

        Parameters
        ----------
        weights : (N,) float64, an array of the engine's module; nothing is checked

        Notes
        -----
        They must lie where the engine computes. While the environment of a frame is in use they may change
        only as much as a filter changes them: an engine may keep what it chose for them (a table's step).
        """
        self._weights = weights

    @property
    def parameters(self) -> Parameters:
        """What the passes of the engine take: descriptor, layout, weights, bias per type."""
        bias_t = self.bias_atom_e + self.out_bias
        return Parameters(self._descriptor, self.layout, self._weights, bias_t)

    def environment(self, frames, pairs=None):
        """What depends on the frame alone; may be kept and given back to `evaluate`.

        Parameters
        ----------
        frames : Frame, or list of Frames that are put side by side
        pairs : list of `Pairs`, one per frame, if the neighbours are known
        """
        return self.engine.environment(self.statistics, frames, pairs)

    def evaluate(self, frames, environment=None):
        """Energy, forces, virial and atomic energies.

        Parameters
        ----------
        frames : Frame or ase.Atoms, or a list of them (or a Dataset), which may be long
        environment : from `environment(frames)`, if it is at hand

        Returns
        -------
        Result, or a list of Results for a list

        Raises
        ------
        InputError
            For a species that the model does not have, overlapping atoms, more neighbours than ``sel``.

        Examples
        --------
        >>> from kalmandp import Frame
        >>> rng = np.random.default_rng(1)
        >>> potential = Potential.create(["H"], rcut=3.0, sel=[2], rng=rng, embedding=(4, 8), axis_neuron=2)
        >>> result = potential.evaluate(Frame([[0, 0, 0], [0, 0, 0.74]], [0, 0], ("H",)))
        >>> result.forces.shape, bool(abs(result.forces.sum(0)).max() < 1e-15)
        ((2, 3), True)
        """
        many = isinstance(frames, Sequence)
        if many and environment is None:
            parts = (part for part, _ in batches(map(self.as_frame, frames)))
            return [result for part in parts for result in self._evaluate(part, self.environment(part))]
        frames = [self.as_frame(f) for f in (frames if many else [frames])]
        results = self._evaluate(frames, self.environment(frames) if environment is None else environment)
        return results if many else results[0]

    def _evaluate(self, frames: list[Frame], env) -> list[Result]:
        """`evaluate` for frames side by side."""
        par, engine = self.parameters, self.engine
        E_i, forward = engine.energies(par, env)
        f_pc = engine.pair_gradient(par, env, forward, once=True)
        E_i, F_ic, W_fcc = map(to_numpy, (E_i, engine.forces(env, f_pc), engine.virial(env, f_pc)))
        stops = np.cumsum([len(f) for f in frames])
        results = []
        for f, stop in enumerate(stops):
            atoms = slice(stop - len(frames[f]), stop)
            results.append(Result(float(E_i[atoms].sum()), F_ic[atoms], W_fcc[f], E_i[atoms]))
        return results

    def energy_jacobian(self, frames):
        """∂E/∂w in eV: (N,) for a frame, (f, N) for a list of frames.

        Parameters
        ----------
        frames : Frame or ase.Atoms, or a list of them

        Raises
        ------
        InputError
            As `evaluate`.
        """

        def one(frame, env, forward):
            ones = self._put(np.ones(len(frame)))
            return self.engine.energy_gradient(self.parameters, env, forward, ones)

        return self._jacobian(frames, None, one)

    def force_jacobian(self, frames, direction):
        """∂(c·F)/∂w in eV/Å, c·F = Σ_i c_i·F_i.

        Parameters
        ----------
        frames : Frame, or list of Frames
        direction : c, (n_atoms, 3); for a list of frames a list of such. One more leading axis
            (q, n_atoms, 3) asks for q directions at once

        Returns
        -------
        (N,), with (q,) and (f,) axes in front where they were given

        Raises
        ------
        InputError
            For a direction of another shape, or not one for each frame; and as `evaluate`.

        Examples
        --------
        Move the weights a little along δ: the force moves by H·δ.

        >>> from kalmandp import Frame
        >>> rng = np.random.default_rng(1)
        >>> potential = Potential.create(["H"], rcut=3.0, sel=[2], rng=rng, embedding=(4, 8), axis_neuron=2)
        >>> frame = Frame([[0, 0, 0], [0, 0, 0.74]], [0, 0], ("H",))
        >>> c = np.array([[0, 0, 1.0], [0, 0, 0]])  # c·F is F_z of atom 0
        >>> H, before = potential.force_jacobian(frame, c), potential.evaluate(frame).forces[0, 2]
        >>> delta = 1e-6 * rng.normal(size=H.shape)
        >>> potential.weights = potential.weights + delta
        >>> after = potential.evaluate(frame).forces[0, 2]
        >>> bool(abs(after - before - H @ delta) < 1e-3 * abs(H @ delta))
        True
        """
        along_force = lambda env, c: force_direction(env.geometry, c)
        return self._jacobian(frames, direction, self._along(along_force, ("n_atoms", 3)))

    def virial_jacobian(self, frames, direction):
        """∂(C:W)/∂w in eV, C:W = Σ_dc C_dc W_dc.

        Parameters
        ----------
        frames : Frame, or list of Frames
        direction : C, (3, 3); lists, a leading axis and errors as in `force_jacobian`

        Returns
        -------
        (N,), with (q,) and (f,) axes in front where they were given
        """
        per_frame = lambda env, C: virial_direction(env.geometry, C[None])
        return self._jacobian(frames, direction, self._along(per_frame, (3, 3)))

    def _along(self, motion, shape):
        def one(frame, env, forward, direction):
            wanted = tuple(len(frame) if s == "n_atoms" else s for s in shape)
            c = np.asarray(direction, dtype=float)
            if c.shape[-2:] != wanted or c.ndim not in (2, 3):
                raise InputError(
                    f"direction has shape {c.shape}; expected {wanted} or (q, *{wanted})"
                )
            none = self._put(np.zeros(len(frame)))
            move = lambda c_q: motion(env, self._put(c_q))
            rows = [
                to_numpy(self.engine.weight_gradient(self.parameters, env, forward, none, move(c_q)))
                for c_q in c.reshape(-1, *wanted)
            ]
            return np.stack(rows) if c.ndim == 3 else rows[0]

        return one

    def _jacobian(self, frames, directions, one):
        """Rows of a Jacobian, ``one(frame, env, forward[, direction])`` for each frame."""
        many = isinstance(frames, Sequence)
        frames = [self.as_frame(f) for f in (frames if many else [frames])]
        directions = directions if many or directions is None else [directions]
        if directions is not None and len(directions) != len(frames):
            raise InputError(
                f"there are {len(directions)} directions; expected {len(frames)}, one per frame"
            )
        rows = []
        for f, frame in enumerate(frames):
            env = self.environment(frame)
            _, forward = self.engine.energies(self.parameters, env)
            along = () if directions is None else (directions[f],)
            rows.append(to_numpy(one(frame, env, forward, *along)))
        return np.stack(rows) if many else rows[0]

    def as_frame(self, frame) -> Frame:
        """A configuration as a Frame whose types are this model's.

        Parameters
        ----------
        frame : Frame or ase.Atoms

        Raises
        ------
        InputError
            For anything else, and for a species that the model does not have.
        """
        if isinstance(frame, Frame):
            return frame.with_type_map(self.type_map)
        if hasattr(frame, "get_positions"):
            return Frame.from_ase(frame, self.type_map)
        raise InputError(
            f"a configuration is of type {type(frame).__name__}; expected Frame or ase.Atoms"
        )

    def __repr__(self) -> str:
        return (
            f"Potential({self.form.kind!r}, type_map={list(self.type_map)}, cutoff={self.form.cutoff}, "
            f"weights={self.layout.size})"
        )


def _own(weights, xp):
    """The caller's own array, if it lies where the engine computes and can be changed in place."""
    fits = isinstance(weights, xp.ndarray) and weights.dtype == np.float64
    if not (fits and weights.flags.c_contiguous and getattr(weights.flags, "writeable", True)):
        where = "NumPy" if xp is np else "CuPy"
        raise InputError(
            f"weights with copy=False are not a writeable, C-ordered float64 {where} array; expected one"
        )
    return weights


def _finite(name: str, value, shape) -> np.ndarray:
    array = np.array(value, dtype=np.float64, ndmin=1)
    if array.shape != shape:
        raise InputError(f"{name} has shape {array.shape}; expected {shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} has numbers that are not finite; expected finite numbers")
    return array
