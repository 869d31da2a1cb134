"""`kalmandp example`: what a new user gets without a clone can be trained as it is."""

from __future__ import annotations

import numpy as np
import pytest

import kalmandp
from kalmandp.cli import main
from kalmandp.commands.example import EXAMPLES
from kalmandp.commands.info import read_checkpoint_header

#: Bytes of an example: the package must stay small.
SMALL = 500_000


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_can_be_trained_as_it_is(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["example", name]) == 0
    out = capsys.readouterr().out
    command = out.splitlines()[-1].partition("kalmandp ")[2].split()
    assert sum(p.stat().st_size for p in (tmp_path / name).iterdir()) < SMALL
    before = {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
    assert main([*command, "--smoke", "--quiet", "--skip-plots"]) == 0
    assert read_checkpoint_header(tmp_path / name / "run" / "model.ckpt.h5").step == 2
    assert main(["example", name]) == 1
    assert "is there already, and nothing was copied" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / name).iterdir() if p.is_file()} == before


def test_silicon_is_half_of_the_repositorys(tmp_path):
    assert main(["example", "silicon", str(tmp_path / "si")]) == 0
    for part in ("train", "test"):
        with kalmandp.Dataset(tmp_path / "si" / f"{part}.h5") as few, kalmandp.Dataset(whole(part)) as all_:
            assert len(few) == (len(all_) + 1) // 2
            assert f"({len(few)} of {len(all_)} frames)" in next(iter(few.attributes.values()))["title"]
            for a, b in zip(few, all_[::2], strict=True):
                assert (a.positions == b.positions).all() and (a.forces == b.forces).all()
                assert a.energy == b.energy and np.array_equal(a.virial, b.virial)


def whole(part: str):
    from pathlib import Path

    return Path(__file__).parents[2] / "data" / f"si64_lda_{part}.h5"


def test_names_are_listed_and_others_named(capsys):
    assert main(["example"]) == 0
    assert all(name in capsys.readouterr().out for name in EXAMPLES)
    assert main(["example", "gold"]) == 1
    assert "the example is 'gold'; expected one of: silicon" in capsys.readouterr().err
