"""Potentials: what all have in common, above the descriptor, and a folder for each kind."""
