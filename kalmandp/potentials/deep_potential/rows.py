"""What a Deep Potential is made of, in rows for a reader."""

from __future__ import annotations

from kalmandp.potentials.deep_potential.architecture import Architecture


def rows(form: Architecture) -> list[tuple[str, str]]:
    """Names and values, as `kalmandp info` prints them."""
    a = form
    widths = lambda w: ", ".join(map(str, w))
    nets = "one per neighbour type" if a.type_one_side else "one per pair of types"
    found = [
        ("model", "Deep Potential (se_e2_a)"),
        ("types", ", ".join(a.type_map)),
        ("cut-off", f"{a.rcut:g} Å, smooth from {a.rcut_smth:g} Å"),
        ("neighbours (sel)", widths(a.sel)),
        ("embedding", f"{widths(a.embedding)} ({a.embedding_activation}), {nets}"),
        ("descriptor", f"{a.embedding[-1]} × {a.axis_neuron}"),
        ("fitting", f"{widths(a.fitting)} ({a.fitting_activation})"),
    ]
    if a.exclude_types:
        found.append(("excluded pairs", str(list(a.exclude_types))))
    return found
