"""Files that are written completely or left as they were, and checks where HDF5 is fragile."""

from kalmandp.files.global_heap import check_global_heaps
from kalmandp.files.hdf5_writing import writing_hdf5
from kalmandp.files.locking import one_run_in
from kalmandp.files.replacing import make_folder, naming, replacing, write_lines

__all__ = [
    "check_global_heaps", "make_folder", "naming", "one_run_in", "replacing", "write_lines", "writing_hdf5",
]  # fmt: skip
