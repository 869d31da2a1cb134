"""A look at the parts of an HDF5 file whose damage its library does not survive.

Texts of variable length lie in "global heaps", chains of objects that carry no checksum. HDF5 (seen
up to 2.0) follows such a chain without an end if a damaged object says that it has no size. Before
texts of that kind are read from a file, its heaps are walked here.

Source: HDF5 File Format Specification 3.0, section III.E, "Disk Format: Level 1E - Global Heap".
"""

from __future__ import annotations

import struct

from kalmandp.errors import FileError

#: Signature, version 1, three reserved bytes.
SIGNATURE = b"GCOL\x01\0\0\0"
#: Signature and the size of the whole collection (8 bytes).
HEADER = 16
#: Index, count of references, 4 reserved bytes, size of the object.
OBJECT = struct.Struct("<HHIQ")
BLOCK = 1 << 24


def check_global_heaps(path: str) -> None:
    """Walk every global heap of an HDF5 file.

    Raises
    ------
    FileError
        If one is damaged: the message names the file and the place.
    """
    with open(path, "rb") as file:
        for place in _places(file):
            file.seek(place + len(SIGNATURE))
            (size,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
            file.seek(place)
            heap = file.read(min(size, BLOCK))
            if len(heap) < size or not _is_whole(heap):
                raise FileError(f"{path}: is damaged (global heap at byte {place})")


def _places(file):
    """Where heaps begin."""
    offset, tail = 0, b""
    while block := file.read(BLOCK):
        next_block = file.tell()
        text = tail + block
        found = text.find(SIGNATURE)
        while found >= 0:
            yield offset - len(tail) + found
            found = text.find(SIGNATURE, found + 1)
        offset += len(block)
        tail = text[-len(SIGNATURE) + 1 :]
        file.seek(next_block)


def _is_whole(heap: bytes) -> bool:
    """Whether the objects of a heap follow one another to its end."""
    place = HEADER
    while place + OBJECT.size <= len(heap):
        index, _, _, size = OBJECT.unpack_from(heap, place)
        if index == 0:  # what is left free, to the end; its size includes its header
            return place + size == len(heap)
        place += OBJECT.size + (size + 7) // 8 * 8
    return place <= len(heap)
