"""`plan --ranks`: what a step on several ranks takes, without starting any."""

from __future__ import annotations

import json

import pytest
from small_models import tree_of, write_data, write_input

from kalmandp.cli import main
from kalmandp.kalman import Blocks
from kalmandp.training.placement.ranks_model import Network, Parts, Rates, Step, on_ranks

BLOCKS = Blocks((5120,) * 20)


def told(capsys, *words) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    return status, *capsys.readouterr()


def test_the_command(tmp_path, capsys):
    write_data(tmp_path)
    path = write_input(tmp_path / "input.json", tree_of("nep", tmp_path, optimizer={"preset": "matrix"}))
    status, out, _ = told(capsys, "plan", path, "--ranks", "4")
    assert status == 0 and "received in a step" in out and "expected" in out
    status, out, _ = told(capsys, "plan", path, "--ranks", "4", "--json", "--no-timing")
    plan = json.loads(out)["on_ranks"]
    assert status == 0 and plan["n_ranks"] == 4 and plan["seconds"] is None and plan["received"] > 0


@pytest.mark.parametrize("option", ["--ranks", "--bandwidth", "--latency"])
def test_what_makes_no_sense(tmp_path, capsys, option):
    write_data(tmp_path)
    path = write_input(tmp_path / "input.json", tree_of("nep", tmp_path))
    status, _, err = told(capsys, "plan", path, option, "-1")
    assert status == 1 and option in err and "positive" in err


def test_an_optimizer_without_P(tmp_path, capsys):
    write_data(tmp_path)
    path = write_input(tmp_path / "input.json", tree_of("nep", tmp_path, optimizer={"type": "Adam"}))
    status, _, err = told(capsys, "plan", path, "--ranks", "2")
    assert status == 1 and "Adam" in err and "RLEKF" in err


def test_the_sum_of_its_parts():
    step, parts = Step(numbers=64, updates=2, pieces=4, sent=128), Parts(rows=3.0, update=8.0, alone=0.5)
    one = on_ranks(BLOCKS, 1, step, parts)
    assert one.seconds == pytest.approx(11.5) and one.received == one.messages == one.travelling == 0
    two = on_ranks(BLOCKS, 2, step, parts, Network(bandwidth=1e9, latency=1e-3))
    assert two.travelling == pytest.approx(two.received / 1e9 + two.messages * 1e-3, rel=1e-6)
    assert two.seconds == pytest.approx(1.5 + 4.0 + 0.5 + two.travelling, rel=0.02)  # P is not cut evenly
    eight = on_ranks(BLOCKS, 8, step, parts)
    assert eight.seconds > 3.0 / 4 + 0.5  # four pieces are not made by eight ranks
    assert 8 * 128 * BLOCKS.n_weights / 2 < two.received  # half of H, and more


def test_rates_grow_with_weights():
    step, rates = Step(50, 1, 2, 50), Rates(row=1e-9, operation=1e-11, predicted=1e-8, ready=1e-3)
    small, large = (rates.parts(Blocks((n,)), step) for n in (1000, 2000))
    assert large.rows == pytest.approx(2 * small.rows)
    assert large.update == pytest.approx(4 * small.update, rel=0.05)  # 3 n² m, and a little of 2 n m²
    assert large.alone == pytest.approx(small.alone + 1e-5)
