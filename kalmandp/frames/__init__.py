"""Labelled frames: one of them, a data set of many, and how they lie in HDF5 files."""
