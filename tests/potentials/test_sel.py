"""sel: how many neighbours a Deep Potential has room for, made from counts as DeePMD-kit makes it."""

from __future__ import annotations

import numpy as np
import pytest

from kalmandp.errors import InputError
from kalmandp.potentials.deep_potential.neighbours import auto_sel


@pytest.mark.parametrize(
    ("counts", "ratio", "sel"),
    [
        # DeePMD-kit 3.2, deepmd/utils/update_sel.py: 4 * ((int(count * ratio) + 3) // 4)
        ([46, 92], "auto", [52, 104]),
        ([46, 92], "auto:1.2", [56, 112]),
        ([40, 41, 0, 1], 1.1, [44, 48, 0, 4]),
        ([4], 1, [4]),
    ],
)
def test_auto_sel_is_deepmd_kits(counts, ratio, sel):
    assert auto_sel(np.array(counts), ratio) == sel


@pytest.mark.parametrize("ratio", ["auto:x", "automatic", "1.1", "auto:0.9", 0.5, np.nan, None])
def test_auto_sel_refuses(ratio):
    with pytest.raises(InputError, match="sel is"):
        auto_sel([10], ratio)
