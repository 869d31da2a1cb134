"""A Deep Potential with its types in another order."""

from __future__ import annotations

import numpy as np

from kalmandp.potentials.deep_potential.architecture import Architecture


def reordered(form: Architecture, weights, statistics: dict, old: list[int]):
    """Form, weights and statistics of the same potential, type n being what ``old[n]`` was.

    A type cannot be added, nor taken away: both change Σ sel, the divisor of T.
    """
    a, new = form, {o: n for n, o in enumerate(old)}
    changed = Architecture(
        **{
            **a.to_dict(),
            "type_map": [a.type_map[o] for o in old],
            "sel": [a.sel[o] for o in old],
            "exclude_types": [[new[p], new[q]] for p, q in a.exclude_types],
        }
    )
    layout = form.layout()
    pieces = [weights[_span(layout, net)] for net in _nets(a, old)]
    return changed, np.concatenate(pieces), {name: rows[old] for name, rows in statistics.items()}


def _nets(a: Architecture, old: list[int]) -> list[str]:
    """Names of the nets in the order of the new layout; net of a pair: centre + n_types·neighbour."""
    centres = [None] if a.type_one_side else old
    embeddings = [a.embedding_index(centre, neighbour) for neighbour in old for centre in centres]
    return [f"embedding.{e}" for e in embeddings] + [f"fitting.{t}" for t in old]


def _span(layout, net: str) -> slice:
    """Where the weights of a net lie in w."""
    tensors = [t for t in layout.tensors if t.net == net]
    return slice(tensors[0].start, tensors[-1].stop)
