"""The five passes between pair vectors and q for an HDNNP: linear maps, kept in the environment.

The symmetry functions have no weights, so that ::

    q̇_i = Σ_{p: centre i} ∂q_i/∂r_p · v_p,        f_p = Σ_d q̄_id ∂q_id/∂r_p

and both adjoints with respect to weights are empty.
"""

from __future__ import annotations

from kalmandp.arrays import namespace, segment_sum
from kalmandp.geometry.pairs import Geometry, virial_direction
from kalmandp.potentials.hdnnp.environment import HDNNPEnvironment, build_environment
from kalmandp.potentials.hdnnp.form import HDNNPForm
from kalmandp.potentials.protocol import Descriptor, Parameters


class HDNNPDescriptor(Descriptor):
    """The symmetry functions, with the passes of `potentials.protocol.Descriptor`."""

    def __init__(self, form: HDNNPForm):
        self.form = form
        self.size_t = form.size_t

    def environment(self, statistics: dict, geometry: Geometry) -> HDNNPEnvironment:
        """q and ∂q/∂r; see `environment.build_environment`."""
        return build_environment(self.form, statistics, geometry)

    def forward(self, par: Parameters, env: HDNNPEnvironment):
        """q (i, d), which the environment holds already; complex where the weights are."""
        xp = namespace(env.q_id)
        return env.q_id.astype(xp.result_type(env.q_id, par.weights), copy=False), None

    def tangent(self, par: Parameters, env: HDNNPEnvironment, cache: None, v_pc):
        """q̇ (i, d) = Σ_p ∂q/∂r_p · v_p."""
        return self._along(env, v_pc), None

    def _along(self, env: HDNNPEnvironment, v_pc):
        xp = namespace(v_pc)
        i_p, n_atoms = env.geometry.i_p, env.geometry.n_atoms
        q_dot_id = xp.zeros(env.q_id.shape, dtype=xp.result_type(env.q_id, v_pc))
        for c in env.classes:
            part_bn = xp.einsum("bnc,bc->bn", c.dq_bnc, v_pc[c.pair_b])
            q_dot_id[:, c.functions_n] += segment_sum(part_bn, i_p[c.pair_b], n_atoms)
        return q_dot_id

    def pair_adjoint(self, par: Parameters, env: HDNNPEnvironment, cache: None, q_bar_id):
        """f_pc = Σ_d q̄_id ∂q_id/∂r_pc."""
        xp = namespace(q_bar_id)
        g = env.geometry
        f_pc = xp.zeros(g.r_pc.shape, dtype=xp.result_type(env.q_id, q_bar_id))
        for c in env.classes:
            q_bar_bn = q_bar_id[g.i_p[c.pair_b]][:, c.functions_n]
            f_pc[c.pair_b] = xp.einsum("bn,bnc->bc", q_bar_bn, c.dq_bnc)
        return f_pc

    def weight_adjoint(self, par: Parameters, env: HDNNPEnvironment, cache: None, q_bar_id, gradient) -> None:
        """Nothing: q has no weights."""

    def tangent_adjoint(
        self,
        par: Parameters,
        env: HDNNPEnvironment,
        cache: None,
        tangents: None,
        q_bar_id,
        q_dot_bar_id,
        gradient,
    ) -> None:
        """Nothing: neither q nor q̇ has weights."""

    def strain_directions(self, env: HDNNPEnvironment):
        """q̇ along the six strains xx, yy, zz, xy, yz, zx, shape (6, i, d).

        The directions are those of C:W in `geometry.pairs.virial_direction`; the last three are
        symmetric, C_xy = C_yx = ½. They have no weights: computed once for a frame.
        """
        xp = namespace(env.q_id)
        rows = []
        for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)):
            C_cc = xp.zeros((3, 3))
            C_cc[a, b] += 0.5
            C_cc[b, a] += 0.5
            C_fcc = xp.broadcast_to(C_cc, (env.geometry.n_frames, 3, 3))
            rows.append(self._along(env, virial_direction(env.geometry, C_fcc)))
        return xp.stack(rows)
