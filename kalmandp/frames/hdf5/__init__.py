"""Layouts of frames in HDF5 files and deepmd/npy folders, read and written."""
