"""An input in YAML says what the same in JSON says; what is no input is named."""

from __future__ import annotations

import json
import sys

import pytest
from water_input import WATER

from kalmandp.errors import InputError, MissingPackage
from kalmandp.training.config.inputs import read_input


@pytest.mark.parametrize("suffix", [".yaml", ".yml"])
def test_yaml_is_the_same_input(tmp_path, water, suffix):
    import yaml

    path = tmp_path / f"input{suffix}"
    path.write_text(yaml.safe_dump(water))
    (tmp_path / "input.json").write_text(json.dumps(water))
    assert read_input(path) == read_input(tmp_path / "input.json")
    # JSON is YAML, comments that stand twice included
    path.write_text(WATER)
    assert read_input(path).model == read_input(tmp_path / "input.json").model


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [1", "line 1, column 10: expected ',' or ']'"),
        ("a: 1\na: 2", "line 2, column 1: the key 'a' is no text, or stands twice"),
        ("1: 2", "the key 1 is no text"),
        ("a: &x [1]\nb: *x", "line 2, column 4: aliases are not supported"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("- 1", "expected a mapping with model, training"),
        ("", "expected a mapping"),
        ("a: " + "[" * 1000 + "]" * 1000, "too deep"),
        ("model: 2001-01-01\ntraining: {}", 'model is "2001-01-01"; expected an object'),
        ("a: .nan", "a is NaN; this key is not supported"),
    ],
    ids=lambda value: None,
)
def test_yaml_that_is_not_an_input(tmp_path, text, says):
    path = tmp_path / "input.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"^input\.yaml: ") as caught:
        read_input(path)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_yaml_without_pyyaml(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)  # as if it were not installed
    (tmp_path / "input.yaml").write_text("model: {}")
    with pytest.raises(MissingPackage, match=r"kalmandp\[yaml\]"):
        read_input(tmp_path / "input.yaml")
