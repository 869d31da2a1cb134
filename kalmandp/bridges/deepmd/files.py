"""DeePMD-kit's portable model files: ``.dp`` (HDF5) and ``.yaml``.

Energies, forces and virials of a model agree with those of DeePMD-kit to rounding, both ways. Where
the backends of DeePMD-kit differ among themselves, `disagreements` says how, and reading or writing
such a model warns. Three things are too small, or too far away, to warn of:

- TensorFlow's operators round rcut and rcut_smth to single precision: 6.0 and 0.5 stay as they are, 3.6 does
  not and shifts energies by some 1e-9 of themselves. So does its ``gelu_tf``, with 0.044715.
- PyTorch's ``softplus`` is a straight line above 20, off by 2e-9.
- ``dp convert-backend`` of 3.2 drops ``out_bias`` when it reads a ``.pb``; files are written with the whole
  energy bias there, as other versions and backends expect. Convert the ``.dp`` itself, not a file made from
  it.

``tests/reference/agreement_with_deepmd.py`` measures all this on random models.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from kalmandp.bridges.deepmd.codec import FOREIGN, load_tree, save_tree
from kalmandp.bridges.deepmd.from_tree import from_tree
from kalmandp.bridges.deepmd.to_tree import script_of, to_tree
from kalmandp.potentials.layout import LayerForm
from kalmandp.potentials.potential import Potential

#: How a file of HDF5 begins.
HDF5 = b"\x89HDF\r\n\x1a\n"

__all__ = ["disagreements", "from_tree", "read_deepmd", "to_tree", "write_deepmd"]


#: What a file of this kind is, for messages.
FORMAT = "a model of DeePMD-kit (.dp, .yaml)"
#: Its usual name, and the suffixes that it may have.
DEFAULT, SUFFIXES = "model.dp", (".dp", ".yaml", ".yml")


def recognises(path) -> bool:
    """Whether it is to be read as a model of DeePMD-kit: HDF5, or one of its suffixes.

    Its backends' own files are among them: reading says how DeePMD-kit converts one.
    """
    path = Path(path)
    if path.suffix.lower() in (*SUFFIXES, *FOREIGN):
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(HDF5)) == HDF5


def read_deepmd(path) -> Potential:
    """Read a model file of DeePMD-kit 3 (se_e2_a with an energy fitting).

    Parameters
    ----------
    path : ``.dp``, ``.yaml`` or ``.yml``, from kalmandp or DeePMD-kit's ``dp convert-backend``

    Returns
    -------
    Potential
        Its ``info`` holds ``min_nbor_dist``, ``model_def_script`` and ``origin``, where known.

    Raises
    ------
    FileError
        If the file is missing or damaged.
    InputError
        If the model has a feature that is not supported; the message names it and its key.
    MissingPackage
        For YAML without PyYAML.
    """
    potential = from_tree(load_tree(path), source=str(path))
    backend = potential.info.get("origin", {}).get("backend", "kalmandp")
    _warn(path, [text for odd, text in disagreements(potential) if backend in (odd, "kalmandp")])
    return potential


def write_deepmd(potential: Potential, path) -> None:
    """Write a model file that every DeePMD-kit 3 reads, runs, and converts to its backends.

    Parameters
    ----------
    potential : the model
    path : where to; the suffix ``.dp``, ``.yaml`` or ``.yml`` chooses the format

    Raises
    ------
    FileError
        If it cannot be written. The file appears whole or not at all.
    """
    save_tree(to_tree(potential), path)
    _warn(path, [text for _, text in disagreements(potential)])


def compression(path) -> list[list[str]]:
    """The commands of DeePMD-kit that compress a model file."""
    path = Path(path)
    frozen, small = path.with_suffix(".pth"), path.with_name(f"{path.stem}_compressed.pth")
    return [
        ["dp", "convert-backend", str(path), str(frozen)],
        ["dp", "--pt", "compress", "-i", str(frozen), "-o", str(small)],
    ]


def disagreements(potential: Potential) -> list[tuple[str, str]]:
    """Where the backends of DeePMD-kit 3.2 compute this model differently, as (backend, sentence).

    The backend named is the one that differs from kalmandp.
    """
    a, found = potential.form, []
    if a.exclude_types and potential.statistics["davg"].any():
        found.append(
            (
                "PyTorch",
                "with exclude_types and davg ≠ 0, DeePMD-kit's PyTorch backend counts the padding "
                "slots of excluded types, so that its energy jumps when such a neighbour crosses "
                "the cut-off; its TensorFlow backend and kalmandp leave them out",
            )
        )
    hidden = potential.layout.nets["fitting.0"][:-1]
    if any(_skips_unseen(n, form) for n, form in enumerate(hidden)):
        found.append(
            (
                "TensorFlow",
                "a fitting layer twice as wide as the one before it, or a first one as wide as "
                "the descriptor (or twice), has a skip connection in kalmandp and in DeePMD-kit's "
                "PyTorch backend, but none in its TensorFlow backend",
            )
        )
    names = (a.embedding_activation.lower(), a.fitting_activation.lower())
    if any(name.startswith("custom_silu") for name in names):
        found.append(("TensorFlow", "DeePMD-kit's TensorFlow backend has no custom_silu"))
    return found


def _skips_unseen(number: int, form: LayerForm) -> bool:
    """Whether a fitting layer has a skip connection that the TensorFlow backend does not make."""
    return form.skip == "double" or (number == 0 and form.skip == "same")


def _warn(path, texts: list[str]) -> None:
    for text in texts:
        warnings.warn(f"{Path(path)}: {text}", UserWarning, stacklevel=3)


def sections(potential: Potential) -> tuple[dict, dict]:
    """The sections descriptor and fitting_net of an input that would make this model."""
    script = script_of(potential)
    return script["descriptor"], script["fitting_net"]


read, write = read_deepmd, write_deepmd
