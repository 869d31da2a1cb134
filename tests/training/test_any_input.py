"""Whatever an input holds, it gives settings or an error of ours, of one line."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kalmandp.errors import KalmanDPError
from kalmandp.training.config.inputs import read_input
from kalmandp.training.config.settings import Settings

HERE = Path(__file__).parent
#: Names that lead deep into the reader are drawn as often as nonsense.
NAMES = sorted(
    {"", "_c"}
    | {key for name in ("out_3.0.json", "out_3.2.json") for section in
       json.loads((HERE / name).read_text()).values() for key in section}
    | {"model", "training", "optimizer", "loss", "learning_rate", "descriptor", "fitting_net", "systems"}
)  # fmt: skip
NAME = st.sampled_from(NAMES) | st.text(max_size=4)
LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["se_e2_a", "RLEKF", "LKF", "Adam", "auto", "auto:2", "exp", "ener"])
)
TREE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAME, inner, max_size=6), max_leaves=20
)
READ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def settings_or_error(source) -> None:
    try:
        assert isinstance(read_input(source), Settings)
    except KalmanDPError as error:
        assert str(error) and "\n" not in str(error)


@READ
@given(st.dictionaries(NAME, TREE, max_size=6))
def test_any_tree_gives_settings_or_an_error_of_ours(tree):
    settings_or_error(tree)


@READ
@given(st.data())
def test_any_value_anywhere_gives_settings_or_an_error_of_ours(data):
    """A whole input in which one key, old or new, holds anything."""
    tree = json.loads((HERE / "out_3.2.json").read_text())
    at = tree
    while True:
        key = data.draw(st.sampled_from(sorted(at)) | NAME)
        if isinstance(at.get(key), dict) and data.draw(st.booleans()):
            at = at[key]
            if not at:
                break
        else:
            at[key] = data.draw(TREE)
            break
    settings_or_error(tree)


@READ
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_settings_or_an_error_of_ours(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    settings_or_error(path)
