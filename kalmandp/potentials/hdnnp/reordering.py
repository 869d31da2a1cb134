"""An HDNNP with its types in another order: there is one order, by atomic number."""

from __future__ import annotations

from kalmandp.errors import require
from kalmandp.potentials.hdnnp.form import HDNNPForm


def reordered(form: HDNNPForm, weights, statistics: dict, old: list[int]):
    """The same form, weights and statistics: elements stand by atomic number, whatever is asked for.

    Raises
    ------
    InputError
        For another order.
    """
    names = [form.type_map[o] for o in old]
    in_order = list(old) == list(range(form.n_types))
    require(in_order, "type_map", names, f"{list(form.type_map)}, by atomic number")
    return form, weights, statistics
