"""What an atom sees: its scaled symmetry functions, and how they move with each pair vector.

Nothing here depends on the weights: it is computed once for a frame and kept. With the numbers of
scaling.data, q = shift + factor·G (`scaling_numbers`) is what goes into a net.

∂q/∂r is kept by classes of pairs, one for each (type of the centre, type of the neighbour): only functions
that look at such a neighbour have an entry. For water that is about two thirds of all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from kalmandp.arrays import namespace, segment_sum, to_numpy
from kalmandp.geometry.pairs import Geometry, atoms_by_type
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.hdnnp.symmetry_functions import RADIAL, angular_term, radial_factor

#: Triples that are computed at once, about: it bounds the memory of the sums below.
TRIPLES = 200_000


class PairClass(NamedTuple):
    """Pairs with centres of one type and neighbours of one type, and their derivatives.

    pair_b : (b,) their numbers;  functions_n : (n,) which functions of the centre see them
    dq_bnc : (b, n, 3) ∂q_d/∂r_c, 1/Å
    """

    centre: int
    pair_b: Any
    functions_n: np.ndarray
    dq_bnc: Any


class HDNNPEnvironment(NamedTuple):
    """One frame, or several side by side, as an HDNNP sees them.

    geometry : the atoms and their pairs;  atoms_t : for each type, the atoms of that type
    q_id : (i, d) scaled symmetry functions, rows filled up with zeros
    classes : `PairClass` for each pair of types that has functions and pairs
    """

    geometry: Geometry
    atoms_t: tuple
    q_id: Any
    classes: tuple[PairClass, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of q and its derivatives."""
        return self.q_id.nbytes + sum(c.pair_b.nbytes + c.dq_bnc.nbytes for c in self.classes)


def scaling_numbers(form: HDNNPForm, statistics: dict):
    """shift_td and factor_td of q = shift + factor·G, n2p2's five ways::

        none            q = G
        center          q = G − mean
        scale           q = S_min + (S_max − S_min) (G − min)/(max − min)
        scale+center    q = S_min + (S_max − S_min) (G − mean)/(max − min)
        sigma           q = S_min + (S_max − S_min) (G − mean)/sigma

    A function that never changes in the data (max = min, sigma = 0) gets the factor 0: it says nothing.
    Columns beyond an element's own functions have shift and factor 0.
    """
    xp = namespace(statistics["min"])
    low, high, mean, sigma = (statistics[name] for name in ("min", "max", "mean", "sigma"))
    start, span = form.scale_min, form.scale_max - form.scale_min
    own = xp.asarray(np.arange(low.shape[1]) < np.array(form.size_t)[:, None])
    if form.scaling in ("none", "center"):
        shift, factor = (-mean if form.scaling == "center" else 0.0 * mean), xp.ones_like(mean)
    else:
        width = sigma if form.scaling == "sigma" else high - low
        factor = xp.where(width > 0, span / xp.where(width > 0, width, 1.0), 0.0)
        shift = start - factor * (low if form.scaling == "scale" else mean)
    return xp.where(own, shift, 0.0), xp.where(own, factor, 0.0)


def functions_of(form: HDNNPForm, t: int, s: int) -> np.ndarray:
    """Numbers of the functions of a centre of type ``t`` that look at neighbours of type ``s``."""
    seen = [d for d, f in enumerate(form.functions[t]) if form.type_map[s] in f.neighbours]
    return np.array(seen, dtype=np.int64)


def symmetry_functions(form: HDNNPForm, geometry: Geometry, derivatives: bool = True):
    """G of all atoms, and ∂G/∂r by classes of pairs.

    Parameters
    ----------
    form : HDNNPForm
    geometry : with r_pc in Å, real or complex
    derivatives : False leaves the arrays of the classes empty

    Returns
    -------
    G_id : (i, d), no unit;  classes : tuple of `PairClass` with ∂G/∂r in 1/Å
    """
    g, xp = geometry, namespace(geometry.r_pc)
    i_p, types_p, centre_p = g.i_p, g.types_i[g.j_p], g.types_i[g.i_p]
    r_pc = g.r_pc / form.length_unit
    r_p = xp.sqrt((r_pc * r_pc).sum(-1))
    G_id = xp.zeros((g.n_atoms, max(form.size_t)), dtype=r_pc.dtype)
    classes, row_p = {}, xp.zeros(len(r_p), dtype=np.int64)
    for t in range(form.n_types):
        for s in range(form.n_types):
            pair_b, seen = xp.nonzero((centre_p == t) & (types_p == s))[0], functions_of(form, t, s)
            if not len(seen) or not len(pair_b):
                continue
            row_p[pair_b] = xp.arange(len(pair_b))
            shape = (len(pair_b), len(seen), 3) if derivatives else (0, len(seen), 3)
            classes[t, s] = PairClass(t, pair_b, seen, xp.zeros(shape, dtype=r_pc.dtype))
            for n, d in enumerate(seen):
                f = form.functions[t][d]
                if f.kind in RADIAL:
                    # G_i = Σ_j R(r_ij),   ∂G_i/∂r_ij = R′(r_ij) û_ij
                    R, dR = radial_factor(f, form.cutoff_function, r_p[pair_b])
                    G_id[:, d] += segment_sum(R, i_p[pair_b], g.n_atoms)
                    if derivatives:
                        classes[t, s].dq_bnc[:, n] = (dR / r_p[pair_b])[:, None] * r_pc[pair_b]
    for p1, p2 in _triples(form, g, r_p):
        _add_triples(form, g, (r_pc, r_p), (p1, p2), row_p, classes, G_id, derivatives)
    if derivatives:
        classes = {k: c._replace(dq_bnc=c.dq_bnc / form.length_unit) for k, c in classes.items()}
    return G_id, tuple(classes.values())


def _triples(form: HDNNPForm, geometry: Geometry, r_p):
    """Pairs of pairs (p1, p2) of one centre, each once, in portions of about `TRIPLES`."""
    xp = namespace(r_p)
    angular = [f.rc for rows in form.functions for f in rows if f.kind not in RADIAL]
    if not angular:
        return
    near = np.nonzero(to_numpy(r_p).real < max(angular))[0]
    i_n = to_numpy(geometry.i_p)[near]
    # of the pairs of one centre, how many come later than each
    after_n = np.searchsorted(i_n, i_n, side="right") - np.arange(len(near)) - 1
    ends = np.cumsum(after_n)
    start = 0
    while start < len(near):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + TRIPLES, side="right")))
        counts = after_n[start:stop]
        first = np.repeat(np.arange(start, stop), counts)
        second = first + 1 + np.arange(len(first)) - np.repeat(ends[start:stop] - counts - done, counts)
        yield xp.asarray(near[first]), xp.asarray(near[second])
        start = stop


def _add_triples(form, g, vectors, triples, row_p, classes, G_id, derivatives) -> None:
    """Add what triples give to G and, by their two pairs, to ∂G/∂r."""
    (r_pc, r_p), (p1, p2) = vectors, triples
    xp = namespace(r_pc)
    types_p = g.types_i[g.j_p]
    # the neighbour of the lower type first
    swap = types_p[p1] > types_p[p2]
    p1, p2 = xp.where(swap, p2, p1), xp.where(swap, p1, p2)
    t_k, s1_k, s2_k = g.types_i[g.i_p[p1]], types_p[p1], types_p[p2]
    for t in range(form.n_types):
        for s1 in range(form.n_types):
            for s2 in range(s1, form.n_types):
                names = (form.type_map[s1], form.type_map[s2])
                wanted = [d for d, f in enumerate(form.functions[t]) if f.neighbours == names]
                k = xp.nonzero((t_k == t) & (s1_k == s1) & (s2_k == s2))[0] if wanted else ()
                if not len(k):
                    continue
                a, b = p1[k], p2[k]
                # r_jk = r_ik − r_ij
                r_jk = r_pc[b] - r_pc[a]
                c = xp.sqrt((r_jk * r_jk).sum(-1))
                u_a, u_b, u_c = r_pc[a] / r_p[a][:, None], r_pc[b] / r_p[b][:, None], r_jk / c[:, None]
                for d in wanted:
                    G, G_a, G_b, G_c = angular_term(
                        form.functions[t][d], form.cutoff_function, r_p[a], r_p[b], c
                    )
                    G_id[:, d] += segment_sum(G, g.i_p[a], g.n_atoms)
                    if not derivatives:
                        continue
                    # ∂G/∂r_ij = G_a û_ij − G_c û_jk,   ∂G/∂r_ik = G_b û_ik + G_c û_jk
                    one, other = classes[t, s1], classes[t, s2]
                    along = G_c[:, None] * u_c
                    n1, n2 = (int(np.searchsorted(x.functions_n, d)) for x in (one, other))
                    xp.add.at(one.dq_bnc[:, n1], row_p[a], G_a[:, None] * u_a - along)
                    xp.add.at(other.dq_bnc[:, n2], row_p[b], G_b[:, None] * u_b + along)


def build_environment(form: HDNNPForm, statistics: dict, geometry: Geometry) -> HDNNPEnvironment:
    """q and ∂q/∂r of atoms from their pairs."""
    G_id, classes = symmetry_functions(form, geometry)
    xp = namespace(geometry.r_pc)
    shift_td, factor_td = (xp.asarray(x) for x in scaling_numbers(form, statistics))
    q_id = shift_td[geometry.types_i] + factor_td[geometry.types_i] * G_id
    atoms_t = atoms_by_type(geometry, form.n_types)
    scaled = []
    for c in classes:
        functions_n = xp.asarray(c.functions_n)  # where the passes index with it
        dq_bnc = c.dq_bnc * factor_td[c.centre][functions_n][:, None]
        scaled.append(c._replace(functions_n=functions_n, dq_bnc=dq_bnc))
    return HDNNPEnvironment(geometry, atoms_t, q_id, tuple(scaled))
