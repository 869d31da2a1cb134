"""What a NEP is made of, in rows for a reader."""

from __future__ import annotations

from kalmandp.potentials.nep.form import NEPForm
from kalmandp.potentials.nep.invariants import BEYOND_THREE


def rows(form: NEPForm) -> list[tuple[str, str]]:
    """Names and values, as `kalmandp info` prints them."""
    f = form
    several = lambda values: ", ".join(f"{x:g}" for x in dict.fromkeys(values))
    more = [name for name, flag in zip(BEYOND_THREE, f.l_max[1:], strict=True) if flag]
    found = [
        ("model", f"NEP{f.version}"),
        ("types", ", ".join(f.type_map)),
        ("cut-offs", f"{several(f.radial_cutoff)} Å radial, {several(f.angular_cutoff)} Å angular"),
        ("radial functions", f"{f.n_max[0] + 1} of {f.basis_size[0] + 1} Chebyshev functions"),
        ("angular functions", f"{f.n_max[1] + 1} of {f.basis_size[1] + 1}, l ≤ {f.l_max[0]}"),
        ("invariants of more bodies", ", ".join(f"q{name}" for name in more) or "none"),
        ("descriptor", f"{f.size} numbers"),
        ("neurons", f"{f.neuron}"),
    ]
    if f.zbl is not None:
        z = f.zbl
        kind = "flexible" if z.pairs is not None else "typewise" if z.factor is not None else "universal"
        found.append(("ZBL repulsion", kind if z.pairs is not None else f"{kind}, to {z.outer:g} Å"))
    return found
