"""How a model file is used in n2p2."""

from __future__ import annotations


def usage(model: str, types) -> list[tuple[str, str, str]]:
    """The program, what it needs, and text to copy, for the path of a model and the names of its types."""
    pairs = " ".join(f"{n}:{name}" for n, name in enumerate(types, start=1))
    return [
        ("LAMMPS, with n2p2", "LAMMPS built with the package ML-HDNNP; in its input",
         f'pair_style   hdnnp CUTOFF dir "{model}" showew no emap "{pairs}"\npair_coeff   * *'),
    ]  # fmt: skip
