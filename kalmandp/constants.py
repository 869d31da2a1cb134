"""Physical constants, each with its unit here, stated once.

Source: CODATA 2018, E. Tiesinga et al., Rev. Mod. Phys. 93, 025010 (2021). Other programs
use constants of other years, which differ from these by less than 1e-7 (relative).
"""

#: Å
BOHR = 0.529177210903
#: eV
HARTREE = 27.211386245988
RYDBERG = HARTREE / 2
#: eV per particle, of 1 kcal/mol and 1 kJ/mol
KCAL_MOL, KJ_MOL = 1 / 23.060547830619, 1 / 96.485332123310
#: 1 eV/Å³ in GPa is the elementary charge in 1e-19 C, times a hundred
GIGAPASCAL = 1.0 / 160.2176634
KILOBAR = GIGAPASCAL / 10
BAR = KILOBAR / 1000
