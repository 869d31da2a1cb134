"""Makes trajectory.json: Algorithm 1 for ten scalar measurements, in extended precision (np.longdouble).

Run it with ``python tests/kalman/make_trajectory.py``.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np

BLOCKS = (7, 20, 1, 13)
STEPS, P0, LAM, NU, NOISE = 10, 0.5, 0.98, 0.9987, 4.0


def main() -> None:
    if np.finfo(np.longdouble).eps > 2e-19:
        raise SystemExit("np.longdouble is no more precise than float64 here; nothing was written")
    rng = np.random.default_rng(2023)
    N = sum(BLOCKS)
    H, error, w0 = rng.normal(size=(STEPS, N)), rng.normal(size=STEPS), rng.normal(size=N)
    ends = np.cumsum((0, *BLOCKS))
    slices = [slice(a, b) for a, b in pairwise(ends)]
    long = np.longdouble
    w = w0.astype(long)
    P = [long(P0) * np.eye(n, dtype=long) for n in BLOCKS]
    lam, nu = long(LAM), long(NU)
    out = {"w": [], "lam": [], "trace": []}
    for h, e in zip(H.astype(long), error.astype(long), strict=True):
        K = [(p * h[s]).sum(axis=1) for p, s in zip(P, slices, strict=True)]
        a = 1 / (lam * long(NOISE) + sum((h[s] * k).sum() for k, s in zip(K, slices, strict=True)))
        w = w + a * e * np.concatenate(K)
        P = [(p - a * k[:, None] * k) / lam for p, k in zip(P, K, strict=True)]
        lam = lam * nu + 1 - nu
        out["w"].append(w.astype(float).tolist())
        out["lam"].append(float(lam))
        out["trace"].append([float(np.trace(p)) for p in P])
    out |= {"blocks": BLOCKS, "P0": P0, "noise": NOISE, "w0": w0.tolist()}
    out |= {"H": H.tolist(), "error": error.tolist()}
    (Path(__file__).parent / "trajectory.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
