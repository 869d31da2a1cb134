"""What DeePMD-kit's commands say: ``test -d``, ``model-devi``, ``neighbor-stat``, ``show``, ``change-bias``.

Run by hand, first with kalmandp's Python, then with DeePMD-kit's; the tests only read ``commands/``::

    python make_deepmd_commands.py data FOLDER      # two stored models, and the frames of one of them
    python make_deepmd_commands.py there FOLDER     # writes commands/
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent.resolve()
#: Stored models of the same types; the frames of the first fit the neighbour lists of both.
MODELS = ("fitting_idt_only", "embedding_idt_only")
RCUT = 3.5


def data(folder: Path) -> None:
    from deepmd_models import load_reference

    import kalmandp
    from kalmandp.bridges.deepmd.files import from_tree

    for name in MODELS:
        from_tree(load_reference(name).tree).save(folder / f"{name}.dp")
    (folder / "data").mkdir(exist_ok=True)
    for k, frame in enumerate(load_reference(MODELS[0]).frames):
        kalmandp.Dataset.write(folder / "frames.h5", [frame])
        kalmandp.convert([folder / "frames.h5"], folder / "data" / str(k))


def there(folder: Path) -> None:
    from deepmd.entrypoints.convert_backend import convert_backend
    from deepmd.entrypoints.neighbor_stat import neighbor_stat
    from deepmd.entrypoints.show import show
    from deepmd.entrypoints.test import test
    from deepmd.infer.model_devi import make_model_devi
    from deepmd.pt.entrypoints.main import change_bias

    os.chdir(folder)
    out = HERE / "commands"
    for name in MODELS:
        convert_backend(INPUT=f"{name}.dp", OUTPUT=f"{name}.pth")
    models = [f"{name}.pth" for name in MODELS]
    every = dict(datafile=None, numb_test=0, rand_seed=None, shuffle_test=False, atomic=False)
    test(model=models[1], system="data", detail_file=str(out / "test"), **every)
    for name, options in (("model_devi", {}), ("real_error", dict(real_error=True, relative=1.0))):
        (out / f"{name}.out").unlink(missing_ok=True)
        make_model_devi(models=models, system="data", output=str(out / f"{name}.out"), frequency=5, **options)
    closest, most = neighbor_stat(system="data", rcut=RCUT, type_map=["O", "H"], backend="pytorch")
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("deepmd").addHandler(handler)
    logging.getLogger("deepmd").setLevel(logging.INFO)
    show(INPUT=models[0], ATTRIBUTES=["type-map", "descriptor", "fitting-net", "size"])
    spoken = [line for line in said if line.startswith(("This is", "The ", "Param"))]
    bias = {}
    for mode in ("change", "set"):
        change_bias(models[1], mode=mode, system="data", output="changed.pth")
        convert_backend(INPUT="changed.pth", OUTPUT="changed.yaml")
        bias[mode] = out_bias("changed.yaml")
    neighbours = {"min_nbor_dist": float(closest), "max_nbor_size": [int(n) for n in most]}
    answers = {**neighbours, "show": spoken, **bias}
    (out / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
    (out / "test.s.out").unlink()  # stresses are not written here


def out_bias(path: str) -> list[float]:
    from deepmd.dpmodel.utils.serialization import load_dp_model

    return load_dp_model(path)["model"]["@variables"]["out_bias"].ravel().tolist()


if __name__ == "__main__":
    step, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (data if step == "data" else there)(folder)
