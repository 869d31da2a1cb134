"""Exercise 5: from pairs to forces and virial.

Pair p leads from atom i_p to atom j_p, with r_p = r_j − r_i. Each atom is the centre of pairs of its own, so
i→j and j→i are both in the list. Given f_p = ∂E/∂r_p, return

    F_i = −∂E/∂r_i   (eV/Å)          W_dc = −Σ_p f_pd r_pc   (eV)

    f_pc (pairs, 3),  r_pc (pairs, 3),  i_p, j_p (pairs,) integers,  n_atoms   ->   F (n_atoms, 3),  W (3, 3)

Hint: r_p has −r_i and +r_j in it. So a pair pulls at two atoms, with opposite signs: the reaction of the
neighbour. Indices repeat: use np.add.at, for F[i_p] += … keeps only the last of them.

Source: RLEKF paper, "Problem Setup", step 5.
Check:  python examples/exercises/pair_forces.py
"""

import numpy as np  # noqa: F401 (for you)


def pair_forces(f_pc, r_pc, i_p, j_p, n_atoms):
    raise NotImplementedError("return F, W")


if __name__ == "__main__":
    import checks

    checks.main(__file__)
