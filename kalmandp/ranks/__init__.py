"""Ranks of MPI that make one program: who we are, and what travels between us. Only `mpi` imports mpi4py."""
