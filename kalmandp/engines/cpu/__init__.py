"""Twins of reference functions for the processor, fused by Numba."""
