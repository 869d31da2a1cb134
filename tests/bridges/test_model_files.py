"""A wrong model path names the model that is near."""

from __future__ import annotations

import pytest

from kalmandp import InputError
from kalmandp.bridges.model_files import read_model


def test_the_model_that_was_meant_is_named(tmp_path):
    model = tmp_path / "hdnnp"
    model.mkdir()
    for name in ("scaling.data", "weights.001.data", "input.nn"):
        (model / name).write_text("0.5\n")
    for wrong in (tmp_path, model / "weights.001.data", model / "input.nn"):
        with pytest.raises(InputError) as caught:
            read_model(wrong)
        assert str(caught.value).endswith(f"(did you mean {model}?)")
    (tmp_path / "notes.md").touch()
    with pytest.raises(InputError, match=r"is not a model file that can be read; .*weights\.\*\.data\)$"):
        read_model(tmp_path / "notes.md")
