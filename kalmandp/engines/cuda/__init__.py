"""Twins of reference functions for GPUs; their kernels stand in sources/."""
