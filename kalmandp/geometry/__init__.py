"""Pairs of atoms within a cut-off, and what is made of pair vectors alone."""
