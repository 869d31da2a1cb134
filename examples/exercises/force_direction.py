"""Exercise 6: a force as a tangent of the energy.

Move the pair vectors with velocities v_p: the energy changes at the rate Ė = Σ_p f_p · v_p, f_p = ∂E/∂r_p.
Which motion makes Ė equal to c·F = Σ_i c_i·F_i, and which one makes it C:W = Σ_dc C_dc W_dc?

    c (n_atoms, 3),  C (3, 3),  r_pc (pairs, 3),  i_p, j_p (pairs,)
        ->  v for the force (pairs, 3),  v for the virial (pairs, 3)

Here r_p = r_j − r_i, F_i = Σ_{p: i_p = i} f_p − Σ_{p: j_p = i} f_p and W_dc = −Σ_p f_pd r_pc.

Hint: put F into c·F and collect what stands beside f_p. Then do the same with C:W.

Source: kalmandp/potentials/atomic.py. Gallery: 04_backpropagation_through_the_force.py.
Check:  python examples/exercises/force_direction.py
"""

import numpy as np  # noqa: F401 (for you)


def directions(c, C, r_pc, i_p, j_p):
    raise NotImplementedError("return v_force, v_virial")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
