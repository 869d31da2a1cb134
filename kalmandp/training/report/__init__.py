"""Errors, learning curves and diagnostics of a run."""
