"""What an HDNNP is made of, in rows for a reader."""

from __future__ import annotations

from collections import Counter

from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.units import units_name


def rows(form: HDNNPForm) -> list[tuple[str, str]]:
    """Names and values, as `kalmandp info` prints them."""
    f = form
    kinds = lambda t: ", ".join(
        f"{n} of type {kind}" for kind, n in sorted(Counter(g.kind for g in f.functions[t]).items())
    )
    found = [
        ("model", "HDNNP (Behler–Parrinello)"),
        ("types", ", ".join(f.type_map)),
        ("cut-off", f"{f.cutoff:g} Å, cutoff_type {f.cutoff_kind}"),
    ]
    found += [(f"functions of {name}", kinds(t)) for t, name in enumerate(f.type_map)]
    found += [
        ("hidden layers", f"{', '.join(map(str, f.hidden))} ({', '.join(f.activations)})"),
        ("scaling", f.scaling),
        ("units of the files", units_name(f)),
    ]
    return found
