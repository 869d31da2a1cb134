"""Files of frames of other programs, read as frames or converted to HDF5."""
