"""Make the data that `kalmandp example silicon` gives: every second frame of data/si64_lda_*.h5.

    python data/make_example.py
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).parent
FOLDER = HERE.parent / "kalmandp" / "examples" / "silicon"
EVERY = 2


def copy(source: h5py.File, target: h5py.File) -> int:
    """Copy every second frame, and what the file says of itself; returns the number of frames."""
    n_frames = len(source["set.000/energy.npy"])
    chosen = np.arange(0, n_frames, EVERY)
    target.attrs.update(source.attrs)
    title = source.attrs["title"].replace(f"({n_frames} frames)", f"({len(chosen)} of {n_frames} frames)")
    target.attrs["title"] = title
    for name in ("type.raw", "type_map.raw"):
        target[name] = source[name][()]
    for name, array in source["set.000"].items():
        rows = array[()][chosen]
        target.create_dataset(f"set.000/{name}", data=rows, compression="gzip", shuffle=True)
    return len(chosen)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        path = FOLDER / f"{part}.h5"
        with h5py.File(HERE / f"si64_lda_{part}.h5", "r") as source, h5py.File(path, "w") as target:
            n = copy(source, target)
        print(f"{path}: {n} frames, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
