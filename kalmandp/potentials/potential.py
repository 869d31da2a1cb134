"""`Potential`: a model with its weights, and what a user asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import to_numpy
from kalmandp.engines import choose_engine
from kalmandp.errors import InputError
from kalmandp.frames.frame import Frame
from kalmandp.potentials.batches import batches
from kalmandp.potentials.deep_potential import statistics
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.initial import checked, initial_weights, span_of
from kalmandp.potentials.deep_potential.jacobian import force_direction, virial_direction
from kalmandp.potentials.deep_potential.model import Parameters
from kalmandp.potentials.layout import WeightLayout


class Result(NamedTuple):
    """energy (eV), forces (n, 3) eV/Å, virial (3, 3) eV = −dE/dε, atomic_energies (n,) eV."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray
    atomic_energies: np.ndarray


class Potential:
    """A Deep Potential (se_e2_a): energy, forces, virial, and their derivatives by the weights.

    Parameters
    ----------
    architecture : Architecture
    weights : (N,) float64, in the order of `WeightLayout`
    davg, dstd : (n_types, 4) normalisation of R, 1/Å
    bias_atom_e, out_bias : (n_types,) eV; their sum is added to each atom's energy
    info : dict of notes that travel with the model file
    engine : "numba" (fused, threads) or "numpy" (the reference); by default the fused one, except for
        embeddings with kinks (relu, relu6, silut, custom_silu), whose table would not converge;
        "cuda" and "cupy" are their like on a GPU
    device : "cpu" or "cuda", which decides the default engine; results are NumPy's in either case
    copy : False to keep ``weights`` itself, a C-ordered float64 array (of CuPy, for an engine on a GPU),
        instead of a copy: training then changes the caller's array in place

    See Also
    --------
    Potential.create : a new one with random weights and statistics from data
    Potential.load : one from a DeePMD-kit `.dp` or `.yaml` file
    """

    def __init__(
        self, architecture, weights, *, davg, dstd, bias_atom_e, out_bias=None, info=None,
        engine=None, device="cpu", copy=True,
    ):  # fmt: skip
        self.architecture = a = architecture
        self.layout = WeightLayout(a)
        check = lambda name, value, shape: _finite(name, value, shape)
        self.davg = check("davg", davg, (a.n_types, 4))
        self.dstd = check("dstd", dstd, (a.n_types, 4))
        if not (self.dstd > 0).all():
            raise InputError(f"dstd has the value {self.dstd.min():g}; expected positive numbers")
        self.bias_atom_e = check("bias_atom_e", bias_atom_e, (a.n_types,))
        out_bias = np.zeros(a.n_types) if out_bias is None else out_bias
        self.out_bias = check("out_bias", out_bias, (a.n_types,))
        self.info = dict(info or {})
        self.engine = choose_engine(engine, device, a, self.layout)
        xp = getattr(self.engine, "xp", np)  # where the engine computes
        self._put, self._in_place = xp.asarray, not copy
        checked = check("weights", to_numpy(weights), (self.layout.size,))
        self._weights: Any = self._put(checked) if copy else _own(weights, xp)

    @classmethod
    def create(
        cls, type_map, *, rcut, rcut_smth=0.5, sel="auto", frames=(), rng=None, atom_ener=None,
        set_davg_zero=False, rcond=None, initial="spread", engine=None, device="cpu", **choices,
    ):  # fmt: skip
        """A potential with random weights, its statistics taken from ``frames``.

        Parameters
        ----------
        type_map : names of the types
        rcut, rcut_smth : Å
        sel : numbers per type, "auto" (1.1 × the largest count in ``frames``) or "auto:1.2"
        frames : iterable of Frame that can be gone through more than once (a Dataset, a list)
        rng : numpy Generator for the weights; required, so that runs can be repeated
        atom_ener : energies per type to keep instead of the least-squares bias, None where free
        set_davg_zero : leave the mean of R̃ at zero, so that empty slots contribute G(0)ᵀ·0 = 0
        rcond : for the least squares, see `statistics.energy_bias`
        initial : how the embedding's first layer is drawn, "spread" or "deepmd" (`deep_potential.initial`)
        engine, device : as for the class
        choices : further fields of `Architecture`

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
        Potential(type_map=['Si'], rcut=4.0, embedding=[4, 8], axis_neuron=2, fitting=[8], weights=193)
        """
        from kalmandp.geometry.neighbours import auto_sel, neighbour_statistics

        if rng is None:
            raise InputError("rng is None; expected a numpy.random.Generator, e.g. default_rng(1)")
        if isinstance(sel, str):
            if not len(frames):
                raise InputError(f"sel is {sel!r} but there are no frames to count neighbours in")
            largest, _ = neighbour_statistics(frames, rcut, type_map)
            sel = auto_sel(largest, sel)
        a = Architecture(type_map, rcut=rcut, rcut_smth=rcut_smth, sel=sel, **choices)
        seen = statistics.environment_statistics(a, frames)
        if set_davg_zero:
            seen = seen._replace(davg_tk=np.zeros_like(seen.davg_tk))
        rcond = statistics.RCOND if rcond is None else rcond
        bias = statistics.energy_bias(frames, a.type_map, atom_ener, rcond)
        info = {"min_nbor_dist": seen.closest} if np.isfinite(seen.closest) else {}
        span = span_of(a, seen) if checked(initial) == "spread" else None
        weights = initial_weights(WeightLayout(a), rng, span)
        return cls(
            a, weights, davg=seen.davg_tk, dstd=seen.dstd_tk, bias_atom_e=bias, info=info, engine=engine,
            device=device,
        )  # fmt: skip

    @classmethod
    def load(cls, path, engine=None, device="cpu") -> Potential:
        """Read a DeePMD-kit `.dp` or `.yaml` model file.

        Parameters
        ----------
        path : the file
        engine, device : as for the class

        Raises
        ------
        FileError, InputError
            If the file is missing or damaged, or holds a model of another kind.
        """
        from kalmandp.bridges.deepmd.files import read_deepmd

        potential = read_deepmd(path)
        return potential.with_engine(engine, device) if engine or device != "cpu" else potential

    def save(self, path) -> None:
        """Write a DeePMD-kit `.dp` (or `.yaml`) model file; it is written beside and renamed.

        Parameters
        ----------
        path : the file; what is there is replaced

        Raises
        ------
        FileError
            If it cannot be written; what was there is then as it was.
        """
        from kalmandp.bridges.deepmd.files import write_deepmd

        write_deepmd(self, path)

    def with_engine(self, engine: str | None, device="cpu") -> Potential:
        """The same potential, with a copy of the weights, computed by another engine.

        Parameters
        ----------
        engine, device : as for the class; None for the device's default engine
        """
        return Potential(
            self.architecture, self.weights, davg=self.davg, dstd=self.dstd,
            bias_atom_e=self.bias_atom_e, out_bias=self.out_bias, info=self.info, engine=engine,
            device=device,
        )  # fmt: skip

    @property
    def type_map(self) -> tuple[str, ...]:
        """Names of the types, in the order of their numbers."""
        return self.architecture.type_map

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
        They are where the engine computes, and are changed by no more than a filter changes them between
        two frames.
        """
        self._weights = weights

    @property
    def parameters(self) -> Parameters:
        """What the passes of the engine take: architecture, layout, weights, bias per type."""
        return Parameters(
            self.architecture, self.layout, self._weights, self.bias_atom_e + self.out_bias
        )

    def environment(self, frames, pairs=None):
        """What depends on the frame alone; may be kept and given back to `evaluate`.

        Parameters
        ----------
        frames : Frame, or list of Frames that are put side by side
        pairs : list of `Pairs`, one per frame, if the neighbours are known
        """
        return self.engine.environment(self.davg, self.dstd, frames, pairs)

    def evaluate(self, frames, environment=None):
        """Energy, forces, virial and atomic energies.

        Parameters
        ----------
        frames : Frame or ase.Atoms, or a list of them (or a Dataset), which may be long
        environment : from `environment(frames)`, if it is at hand

        Returns
        -------
        Result, or a list of Results for a list

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
        f_pc = engine.pair_gradient(par, env, forward)
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
        return self._jacobian(frames, direction, self._along(force_direction, ("n_atoms", 3)))

    def virial_jacobian(self, frames, direction):
        """∂(C:W)/∂w in eV, C:W = Σ_dc C_dc W_dc.

        Parameters
        ----------
        frames : Frame, or list of Frames
        direction : C, (3, 3); lists and a leading axis as in `force_jacobian`
        """
        per_frame = lambda env, C: virial_direction(env, C[None])
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
        a = self.architecture
        return (
            f"Potential(type_map={list(a.type_map)}, rcut={a.rcut}, embedding={list(a.embedding)}, "
            f"axis_neuron={a.axis_neuron}, fitting={list(a.fitting)}, weights={self.layout.size})"
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
