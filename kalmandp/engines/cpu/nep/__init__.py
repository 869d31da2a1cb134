"""Numba twins of NEP's reference functions."""
