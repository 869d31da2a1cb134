"""One dictionary of DeePMD-kit's model tree, checked key by key.

A key that asks for something this package does not compute is an error that names file, place and feature:
a model is read whole or not at all.
"""

from __future__ import annotations

import reprlib
import sys

import numpy as np

from kalmandp.errors import FileError, InputError

#: "@version" that can be read of each "@class"; DeePMD-kit 3.0.0 to 3.2.0 write within these.
VERSIONS = {
    "Model": (1, 2),
    "Descriptor": (1, 3),
    "Fitting": (1, 4),
    "NetworkCollection": (1, 1),
    "EmbeddingNetwork": (1, 2),
    "FittingNetwork": (1, 1),
    "Layer": (1, 2),
}

#: Keys that are read, or that have no influence on energies, forces and virials.
KNOWN = {
    "Model": "descriptor fitting type type_map rcond preset_out_bias",
    "Descriptor": "type rcut rcut_smth sel neuron axis_neuron resnet_dt trainable type_one_side "
    "exclude_types set_davg_zero activation_function precision env_mat embeddings type_map seed "
    "ntypes uniform_seed",
    "env_mat": "rcut rcut_smth",
    "Fitting": "type var_name ntypes dim_descrpt neuron resnet_dt rcond activation_function "
    "precision nets trainable type_map seed dim_out uniform_seed",
    "NetworkCollection": "ndim ntypes network_type networks",
    "EmbeddingNetwork": "in_dim neuron activation_function resnet_dt bias precision layers trainable seed",
    "FittingNetwork": "in_dim out_dim neuron activation_function resnet_dt precision bias_out "
    "bias layers trainable seed",
    "Layer": "bias use_timestep activation_function resnet precision trainable",
}

#: What a key stands for, where its name does not say it.
FEATURES = {
    "atom_ener": "energies of atoms in vacuum (atom_ener), which subtract fitting(D = 0)",
    "atom_exclude_types": "atoms without energy (atom_exclude_types)",
    "case_embd": "a case embedding (multi-task)",
    "compress": "a compressed (tabulated) embedding; take the model before `dp compress`",
    "default_fparam": "frame parameters (fparam)",
    "dim_case_embd": "a case embedding (multi-task)",
    "env_protection": "a protection added to distances (env_protection)",
    "exclude_types": "atoms without energy (exclude_types of the fitting)",
    "layer_name": "layers shared between nets (layer_name)",
    "mixed_types": "one net for all types (mixed_types)",
    "numb_aparam": "atomic parameters (aparam)",
    "numb_fparam": "frame parameters (fparam)",
    "pair_exclude_types": "excluded pairs of the whole model (pair_exclude_types)",
    "protection": "a protection added to distances",
    "spin": "spin",
    "tot_ener_zero": "a total energy of zero for isolated atoms (tot_ener_zero)",
    "use_aparam_as_mask": "a mask on atoms (use_aparam_as_mask)",
    "use_exp_switch": "the exponential switch (use_exp_switch)",
}

#: What a model is that is not one descriptor and one fitting net.
MODEL_TYPES = {
    "dipole": "a model of dipoles",
    "dos": "a model of densities of states",
    "frozen": "a frozen model within a model",
    "linear": "a sum of models (linear_ener)",
    "linear_ener": "a sum of models (linear_ener)",
    "pairtab": "a tabulated pair potential (pairtab)",
    "pairwise_dprc": "a QM/MM correction (pairwise_dprc)",
    "polar": "a model of polarizabilities",
    "property": "a model of properties",
    "spin_ener": "spin (spin_ener)",
    "zbl": "a pair table that takes over at short distances (ZBL)",
}

#: Precisions of a net that are read, all of them as float64.
PRECISIONS = ("float64", "double", "default", "float32", "single")


class Node:
    """A dictionary of the tree that knows its place, so that an error can name file and key."""

    def __init__(self, value, where: str, source: str):
        self.where, self.source = where, source
        if not isinstance(value, dict):
            raise FileError(
                f"{source}: {where} is {reprlib.repr(value)}; expected a dictionary of a model tree"
            )
        self.value = value

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def place(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def wrong(self, key: str, wanted: str, error=FileError) -> Exception:
        """An error that says what was got and wanted under ``key``."""
        got = f"is {reprlib.repr(self.value[key])}" if key in self.value else "is missing"
        return error(f"{self.source}: {self.place(key)} {got}; expected {wanted}")

    def get(self, key: str, kind, wanted: str):
        value = self.value.get(key)
        # in Python bool is a subclass of int
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, wanted)
        return value

    def number(self, key: str) -> float:
        value = self.get(key, (int, float), "a number")
        if not abs(value) < sys.float_info.max:  # an int of JSON may be beyond any float
            raise self.wrong(key, "a finite number")
        return float(value)

    def integer(self, key: str) -> int:
        return self.get(key, int, "a whole number")

    def flag(self, key: str, default: bool | None = None) -> bool:
        if default is not None and key not in self.value:
            return default
        return self.get(key, bool, "true or false")

    def text(self, key: str) -> str:
        return self.get(key, str, "a text")

    def integers(self, key: str) -> tuple[int, ...]:
        items = self.get(key, list, "a list of whole numbers")
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in items):
            raise self.wrong(key, "a list of whole numbers")
        return tuple(items)

    def child(self, key: str) -> Node:
        return Node(self.value.get(key), self.place(key), self.source)

    def children(self, key: str) -> list[Node]:
        items = self.get(key, list, "a list")
        return [Node(v, f"{self.place(key)}[{n}]", self.source) for n, v in enumerate(items)]

    def array(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """The array under ``key`` as float64; axes of length 1 may differ."""
        value = self.value.get(key)
        if not isinstance(value, np.ndarray) or value.dtype not in (np.float64, np.float32):
            raise self.wrong(key, f"a float64 or float32 array of shape {shape}")
        trim = lambda s: tuple(n for n in s if n != 1)
        if trim(value.shape) != trim(shape):
            raise FileError(f"{self.source}: {self.place(key)} has shape {value.shape}; expected {shape}")
        if not np.isfinite(value).all():
            raise InputError(
                f"{self.source}: {self.place(key)} holds numbers that are not finite; expected finite ones"
            )
        return value.astype(np.float64).reshape(shape)

    def check(self, kind: str) -> Node:
        """Check class and version, and that no key asks for what is not computed here."""
        if kind in VERSIONS:
            if self.value.get("@class", kind) != kind:
                raise self.wrong("@class", repr(kind))
            low, high = VERSIONS[kind]
            version = self.integer("@version") if "@version" in self.value else low
            if not low <= version <= high:
                raise self.wrong("@version", f"{low} to {high} for a {kind}", InputError)
        self.check_neutral({"@class", "@version", "@variables", *KNOWN[kind].split()})
        return self

    def check_neutral(self, known) -> None:
        """Each key that is not ``known`` must hold a value that means "not used"."""
        for key, value in self.value.items():
            if key not in known and not _unused(value):
                feature = FEATURES.get(key, f"the option {str(key)[:40]!r}")
                raise InputError(
                    f"{self.source}: {self.place(str(key)[:40])} is {reprlib.repr(value)}; "
                    f"kalmandp does not support {feature}"
                )


def _unused(value) -> bool:
    """Whether a value is one that DeePMD-kit writes for an option that is not in use."""
    if isinstance(value, list | tuple):
        return all(v is None for v in value)
    return value is None or (not isinstance(value, np.ndarray) and not value)
