"""The real queue on tiny runs: finished ones are not run again, interrupted ones go on with the same bits."""

from __future__ import annotations

import json
import os
import re
from io import StringIO
from pathlib import Path

import h5py
import pytest
from numpy.testing import assert_array_equal

from kalmandp import Dataset

README = Path(__file__).resolve().parents[2] / "examples" / "study" / "README.md"


def tiny(study, folder, data, **options):
    systems, _ = study.systems.find_systems(None, folder, data)
    return study.study.Study(folder, systems, smoke=True, **options)


def columns(result):
    """A learning curve without its clock."""
    return {name: values for name, values in result.curve.items() if name != "seconds"}


def test_the_command_runs_reports_and_does_nothing_twice(study, data, tmp_path, capsys):
    command = ["table1", "fig3", "fig4", "-o", str(tmp_path), "--smoke", *(f"--data={d}" for d in data)]
    assert study.command.main(command) == 0
    printed = capsys.readouterr()
    assert "6 runs to do" in printed.err and "better energy on" in printed.out
    results = sorted(tmp_path.glob("runs/*/*/result.json"))
    assert len(results) == 6
    stamps = [path.stat().st_mtime_ns for path in results]
    table = (tmp_path / "tables" / "table1.md").read_text(encoding="utf-8")
    assert re.search(r"\| A +\| +6 \+ 2 \|", table) and re.search(r"\| B +\|", table)
    for name in ("fig3_energy", "fig3_force", "fig4"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("runs/*/*/*.ckpt*")), "a finished run needs no checkpoint"

    assert study.command.main(command) == 0
    assert "to do" not in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in results] == stamps

    # one result less: that run alone is made again; and the report needs no options
    results[0].unlink()
    assert study.command.main(["report", "-o", str(tmp_path)]) == 0
    assert "Not finished: A with" in capsys.readouterr().out
    assert study.command.main(command) == 0
    assert "1 run to do, 5 done before" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in results[1:]] == stamps[1:]


@pytest.mark.parametrize("name", ["default", "adam"])
def test_an_interrupted_run_goes_on_with_the_same_bits(study, data, tmp_path, name):
    whole, parts = (tiny(study, tmp_path / part, data) for part in ("whole", "parts"))
    unit = whole.unit(whole.systems[0], name)
    quiet = lambda event: None
    assert study.one.carry_out(unit, whole.folder_of(unit), quiet, lambda: False)

    seen: list[int] = []
    note = lambda event: seen.append(event["step"]) if "step" in event else None
    assert not study.one.carry_out(unit, parts.folder_of(unit), note, lambda: len(seen) == 5)
    assert parts.result(unit) is None and seen == [1, 2, 3, 4, 5]
    assert study.one.carry_out(unit, parts.folder_of(unit), note, lambda: False)
    assert seen == list(range(1, 13))  # no step was made twice
    one, other = whole.result(unit), parts.result(unit)
    for column, values in columns(one).items():
        assert_array_equal(values, columns(other)[column])
    assert one.final == other.final
    assert list(one.curve["step"]) == sorted(study.one.schedule(6, 12))


def test_other_data_make_another_run(study, data, tmp_path):
    files = {}
    for part, path in zip(("train", "test"), data[0].partition("=")[2].split(","), strict=True):
        files[part] = tmp_path / f"{part}.h5"
        files[part].write_bytes(Path(path).read_bytes())
    a = tiny(study, tmp_path, [f"A={files['train']},{files['test']}"])
    unit = a.unit(a.systems[0], "adam")
    go = lambda stop: study.one.carry_out(unit, a.folder_of(unit), lambda event: None, stop)
    assert go(lambda: False) and a.result(unit) is not None
    Dataset.write(files["train"], Dataset(data[1].partition("=")[2].split(",")[0]))
    assert a.result(unit) is None
    assert not go(lambda: True)  # stopped before its first step: what was there is gone
    assert not (a.folder_of(unit) / "result.json").exists()
    assert go(lambda: False) and a.result(unit) is not None


def test_an_error_is_told_by_name_and_the_others_go_on(study, data, tmp_path, capsys):
    broken = tmp_path / "broken.h5"
    with h5py.File(broken, "w") as file:
        file["nothing"] = 1
    train = data[0].partition("=")[2].split(",")[0]
    command = ["table1", "-o", str(tmp_path / "out"), "--smoke", "--optimizers", "adam"]
    command += [f"--data={d}" for d in (f"C2={train},{broken}", data[0])]
    assert study.command.main(command) == 1
    printed = capsys.readouterr()
    assert re.search(r"failed: C2/adam\S+: .*broken\.h5", printed.err)
    assert "Not finished: C2 with adam" in printed.out
    assert len(list((tmp_path / "out").glob("runs/A/*/result.json"))) == 1


def test_ctrl_c_leaves_everything_resumable(study, data, tmp_path):
    """Both workers save after the step at hand and end."""
    a = tiny(study, tmp_path, data)
    units = [a.unit(system, "default", epochs=None, frames=100_000) for system in a.systems]
    before, pids = _children(), set()

    class Impatient(study.display.Display):
        """Presses Ctrl-C when both runs are on their way."""

        def told(self, number, event):
            super().told(number, event)
            if len(self.slots) == 2 and all(slot.step > 1 for slot in self.slots.values()) and not pids:
                pids.update(_children() - before)
                raise KeyboardInterrupt

    jobs = [a._job(unit) for unit in units]
    outcome = a.run(units, Impatient(jobs, 2, stream=StringIO()))
    assert outcome.stopped and not outcome.done and not outcome.failed
    for unit in units:
        with h5py.File(a.folder_of(unit) / "model.ckpt.h5") as file:
            assert json.loads((a.folder_of(unit) / "unit.json").read_text())["frames"] == 100_000
            assert len(file)
    assert not any(_is_alive(pid) for pid in pids)


def _children() -> set[int]:
    """Process numbers of this process's children, where the system tells them."""
    try:
        return {int(n) for n in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}
    except OSError:
        return {-1}


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_page_names_every_part(study):
    page = README.read_text(encoding="utf-8")
    for name in (*study.command.PARTS, "report"):
        assert f"`{name}`" in page, f"{name} is not on the page"
    for words in ("GFN1-xTB", "PWmat", "--smoke"):
        assert words in page
