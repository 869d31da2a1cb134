"""How a model file is used in GPUMD and NEP_CPU."""

from __future__ import annotations


def usage(model: str, types) -> list[tuple[str, str, str]]:
    """The program, what it needs, and text to copy, for the path of a model and the names of its types."""
    return [
        ("GPUMD", "the model file is nep.txt; in run.in",
         f"potential    {model}\nensemble     nve\ntime_step    1\nrun          1000"),
        ("LAMMPS, with NEP_CPU", "LAMMPS built with the package of NEP_CPU; in its input",
         f"pair_style   nep\npair_coeff   * * {model} {' '.join(types)}"),
    ]  # fmt: skip
