"""Ranks of MPI that make one program: who we are, and what travels between us. Only `mpi` imports mpi4py."""

from kalmandp.ranks.team import Alone, Team, team_of

__all__ = ["Alone", "Team", "team_of"]
