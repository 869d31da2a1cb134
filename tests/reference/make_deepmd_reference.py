"""Compute the stored reference values with DeePMD-kit: the fourth judge of the derivatives.

Writes ``deepmd_models.h5`` (random models, random frames, and what DeePMD-kit says of them) and a
few model files as DeePMD-kit itself writes them. Run by hand; the tests only read the files::

    pip install "deepmd-kit[cpu]" torch h5py
    python make_deepmd_reference.py [folder]

Under deepmd-kit 3.0 it writes nothing but ``from_3_0_pytorch.dp``, a file of that version.

How the values come about. A model is built by ``deepmd.pt.model.model.get_model``, its statistics
and biases are replaced by random ones in the serialised tree, and the tree is read back by
``BaseModel.deserialize``. Everything is float64. Forces and virial are DeePMD-kit's own;
derivatives with respect to the weights are ``torch.autograd.grad`` of E, c·F and C:W through its
graph.

Two models exclude pairs of types with a mean that is not zero. There the backends of DeePMD-kit
differ: TensorFlow zeroes the padding slots of an excluded type as well, PyTorch leaves them in, which
makes the energy jump when an excluded neighbour crosses the cut-off. These two have TensorFlow's
values.

Each model is one data set of ``deepmd_models.h5``: all arrays end to end, and an attribute ``json``
with the tree and the frames, in which an array is written {"@array": [start, shape]}.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np

SEED = 20240229
# exact in float32: TensorFlow's operators keep the two radii in single precision
RCUT, RCUT_SMTH = 3.5, 1.25
SMALLEST_DISTANCE = 0.85  # Å, in random frames
SPARE_SLOTS = 3  # sel beyond the largest neighbour count, so that padding slots matter

TYPES = ("O", "H", "Si")

#: name → what differs from a one-type, one-sided tanh model
MODELS = {
    "equal_widths": dict(embedding=[6, 6, 6], axis=4, fitting=[8, 8, 8]),
    "doubled_widths": dict(embedding=[3, 6, 12], axis=5, fitting=[7, 7]),
    "no_skips": dict(n_types=2, embedding=[3, 5, 8], axis=8, fitting=[6, 9, 5], phi=("gelu", "silu")),
    "two_sided": dict(n_types=2, one_side=False, embedding=[4, 8], fitting=[6, 6], phi=("sigmoid", "tanh")),
    "two_sided_idt": dict(
        n_types=3,
        one_side=False,
        embedding=[4, 4, 8],
        axis=2,
        fitting=[6, 6],
        idt=(True, True),
        phi=("tanh", "softplus"),
    ),
    "one_sided_idt": dict(
        n_types=2, embedding=[2, 4, 8], fitting=[5, 10], idt=(True, True), phi=("tanh", "gelu_tf")
    ),
    "embedding_idt_only": dict(n_types=2, embedding=[5, 5], fitting=[6, 6], idt=(True, False)),
    "fitting_idt_only": dict(n_types=2, embedding=[5, 5], fitting=[6, 6], idt=(False, True)),
    "relu": dict(embedding=[4, 8], fitting=[6, 6], phi=("relu", "relu6")),
    "silut": dict(embedding=[4, 8], fitting=[6, 6], phi=("silut:0.5", "custom_silu:0.3")),
    "linear": dict(embedding=[4, 8], fitting=[6, 6], phi=("linear", "none")),
    "softplus": dict(embedding=[4, 4], fitting=[6, 6], phi=("softplus", "sigmoid")),
    "one_axis": dict(n_types=3, embedding=[4, 8], axis=1, fitting=[6], phi=("silu", "silut")),
    "relu6": dict(embedding=[4, 8], fitting=[6, 6], phi=("relu6", "gelu")),
    "first_layer_skips": dict(n_types=2, embedding=[2, 2], axis=2, fitting=[4, 8, 8], idt=(False, True)),
    "smallest": dict(embedding=[1, 2], axis=1, fitting=[]),
    "excluded_centred": dict(
        n_types=2, one_side=False, embedding=[4, 8], fitting=[6, 6], exclude=[[0, 1]], davg=0.0
    ),
    "excluded_one_sided": dict(
        n_types=2, embedding=[4, 8], fitting=[6, 6], exclude=[[0, 1], [1, 1]], backend="TensorFlow"
    ),
    "excluded_two_sided": dict(
        n_types=3,
        one_side=False,
        embedding=[4, 8],
        fitting=[6, 6],
        exclude=[[0, 0], [2, 1]],
        backend="TensorFlow",
    ),
}


# ------------------------------------------------------------------------------------------ frames


def images(cell, reach):
    """Lattice vectors whose cells can hold atoms within ``reach`` of the home cell."""
    if cell is None:
        return np.zeros((1, 3))
    heights = abs(np.linalg.det(cell)) / np.array(
        [np.linalg.norm(np.cross(cell[(k + 1) % 3], cell[(k + 2) % 3])) for k in range(3)]
    )
    n = [np.arange(-m, m + 1) for m in np.ceil(reach / heights).astype(int) + 1]
    return np.stack(np.meshgrid(*n, indexing="ij"), -1).reshape(-1, 3) @ cell


def distances(positions, cell, reach):
    """(n, n, images) distances from each atom to each image of each atom; inf for itself."""
    shift = images(cell, reach)
    d = positions[None, :, None] + shift[None, None] - positions[:, None, None]
    r = np.sqrt((d * d).sum(-1))
    r[r < 1e-12] = np.inf
    return r


def random_frame(rng, n_atoms, n_types, cell):
    """Atoms thrown at random into a cell (or a ball of 2 Å for an open system), none too close."""
    while True:
        if cell is None:
            positions = rng.uniform(-1.6, 1.6, (n_atoms, 3))
        else:
            positions = rng.uniform(0, 1, (n_atoms, 3)) @ cell
        if distances(positions, cell, SMALLEST_DISTANCE).min(initial=9.0) > SMALLEST_DISTANCE:
            break
    types = np.sort(rng.integers(0, n_types, n_atoms))[rng.permutation(n_atoms)]
    return dict(positions=positions, types=types, cell=cell)


def random_frames(rng, n_types, number):
    """Three frames per model: a larger one, a cell smaller than the cut-off, and an odd one."""
    tilted = np.diag([4.6, 5.2, 4.9]) + np.tril(rng.uniform(-1.5, 1.5, (3, 3)), -1)
    small = np.diag([2.3, 2.6, 2.9]) + np.tril(rng.uniform(-0.3, 0.3, (3, 3)), -1)
    larger = [(6, np.eye(3) * 6.125), (5, tilted), (6, None)]
    odd = [(1, None), (4, None), (1, np.eye(3) * 3.125), (7, tilted)]
    chosen = [larger[number % 3], (3, small), odd[number % 4]]
    return [random_frame(rng, n_atoms, n_types, cell) for n_atoms, cell in chosen]


def neighbours_needed(frames, n_types):
    """Largest number of neighbours of each type over all atoms of all frames."""
    most = np.zeros(n_types, int)
    for frame in frames:
        close = (distances(frame["positions"], frame["cell"], RCUT) < RCUT).sum(-1)
        for t in range(n_types):
            most[t] = max(most[t], close[:, frame["types"] == t].sum(-1).max(initial=0))
    return most


# ------------------------------------------------------------------------------------------ models


def random_model(
    rng, sel, *, n_types=1, one_side=True, embedding, axis=3, fitting, idt=(False, False),
    phi=("tanh", "tanh"), exclude=(), davg=0.3, backend="PyTorch",
):  # fmt: skip
    """DeePMD-kit's own tree of a random model, and the script it is made from."""
    from deepmd.pt.model.model import get_model

    seed = int(rng.integers(1 << 30))
    script = {
        "type_map": list(TYPES[:n_types]),
        "descriptor": {
            "type": "se_e2_a",
            "sel": sel,
            "rcut": RCUT,
            "rcut_smth": RCUT_SMTH,
            "neuron": embedding,
            "axis_neuron": axis,
            "resnet_dt": idt[0],
            "type_one_side": one_side,
            "exclude_types": [list(pair) for pair in exclude],
            "activation_function": phi[0],
            "precision": "float64",
            "seed": seed,
        },
        "fitting_net": {
            "type": "ener",
            "neuron": fitting,
            "resnet_dt": idt[1],
            "activation_function": phi[1],
            "precision": "float64",
            "seed": seed + 1,
        },
    }
    tree = get_model(copy.deepcopy(script)).serialize()
    slots = (1, sum(sel), 1)
    tree["descriptor"]["@variables"] = {
        "davg": np.tile(davg * rng.normal(size=(n_types, 1, 4)), slots),
        "dstd": np.tile(rng.uniform(0.15, 0.4, (n_types, 1, 4)), slots),
    }
    tree["fitting"]["@variables"]["bias_atom_e"] = rng.normal(size=(n_types, 1))
    tree["@variables"]["out_bias"] = rng.normal(size=(1, n_types, 1))
    for part in (tree["descriptor"]["embeddings"], tree["fitting"]["nets"]):
        for net in part["networks"]:
            for layer in net["layers"]:
                variables = layer["@variables"]
                if variables["idt"] is not None:  # 0.1 ± 0.001 would hide a mistake
                    variables["idt"] = rng.normal(0.5, 0.3, variables["idt"].shape)
    return tree, script


def weight_tensors(model):
    """The parameters of a PyTorch model in the order of kalmandp's flat vector of weights."""
    atomic = model.atomic_model
    nets = [
        *atomic.descriptor.sea.filter_layers.networks,
        *atomic.fitting_net.filter_layers.networks,
    ]
    for net in nets:
        for layer in net.layers:
            yield layer.matrix, True
            yield layer.bias, False
            if layer.idt is not None:
                yield layer.idt, False


def flat_gradient(value, model):
    """∂value/∂w, each matrix transposed before it is laid flat."""
    import torch

    tensors = list(weight_tensors(model))
    for tensor, _ in tensors:
        tensor.requires_grad_(True)
    if not value.requires_grad:  # e.g. the force on a lone atom
        return np.zeros(sum(tensor.numel() for tensor, _ in tensors))
    grads = torch.autograd.grad(value, [t for t, _ in tensors], retain_graph=True, allow_unused=True)
    pieces = []
    for (tensor, is_matrix), grad in zip(tensors, grads, strict=True):
        grad = torch.zeros_like(tensor) if grad is None else grad
        pieces.append((grad.T if is_matrix else grad).detach().numpy().ravel())
    return np.concatenate(pieces)


def evaluate_pytorch(tree, frame, direction=None):
    """E, E_i, F, W of a frame; with ``direction`` also the three Jacobians."""
    import torch
    from deepmd.pt.model.model.model import BaseModel

    model = BaseModel.deserialize(copy.deepcopy(tree))
    for tensor, _ in weight_tensors(model):
        tensor.requires_grad_(True)
    model.train(direction is not None)  # training mode keeps the graph of the forces
    cell = None if frame["cell"] is None else torch.tensor(frame["cell"].reshape(1, 9))
    out = model(torch.tensor(frame["positions"][None]), torch.tensor(frame["types"][None]), cell)
    energy, force, virial = out["energy"][0, 0], out["force"][0], out["virial"][0].reshape(3, 3)
    result = {
        "energy": energy.item(),
        "atomic_energies": out["atom_energy"].detach().numpy().ravel(),
        "forces": force.detach().numpy(),
        "virial": virial.detach().numpy(),
    }
    if direction is not None:
        c, C = direction
        result["jacobian"] = {
            "force_direction": c,
            "virial_direction": C,
            "energy": flat_gradient(energy, model),
            "force": flat_gradient((torch.tensor(c) * force).sum(), model),
            "virial": flat_gradient((torch.tensor(C) * virial).sum(), model),
        }
    return result


def evaluate_tensorflow(tree, script, frames):
    """E, E_i, F, W of some frames through a frozen TensorFlow graph."""
    from deepmd.infer import DeepPot
    from deepmd.tf.utils.serialization import deserialize_to_file

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.pb")
        deserialize_to_file(path, {"model": copy.deepcopy(tree), "model_def_script": script})
        potential = DeepPot(path)
        results = []
        for frame in frames:
            cell = None if frame["cell"] is None else frame["cell"].reshape(1, 9)
            e, f, w, e_i, _ = potential.eval(
                frame["positions"].reshape(1, -1), cell, frame["types"], atomic=True
            )
            results.append(
                {
                    "energy": float(e[0, 0]),
                    "atomic_energies": e_i.ravel(),
                    "forces": f[0],
                    "virial": w[0].reshape(3, 3),
                }
            )
    return results


# ------------------------------------------------------------------------------------------- files


class Flat:
    """Arrays laid end to end; in the text beside them an array is {"@array": [start, shape]}."""

    def __init__(self):
        self.pieces, self.size = [], 0

    def pack(self, node):
        if isinstance(node, dict):
            return {str(k): self.pack(v) for k, v in node.items()}
        if isinstance(node, list | tuple):
            return [self.pack(v) for v in node]
        if isinstance(node, np.ndarray):
            start, self.size = self.size, self.size + node.size
            self.pieces.append(np.asarray(node, np.float64).ravel())
            return {"@array": [start, list(node.shape)]}
        return node.item() if isinstance(node, np.generic) else node

    def array(self):
        return np.concatenate([*self.pieces, np.zeros(0)])


def write_reference(path):
    import deepmd
    import torch

    rng = np.random.default_rng(SEED)
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["software"] = "deepmd-kit"
        file.attrs["version"] = deepmd.__version__
        file.attrs["torch_version"] = str(torch.__version__)
        file.attrs["made_by"] = "tests/reference/make_deepmd_reference.py"
        file.attrs["precision"] = "float64"
        file.attrs["units"] = "Å, eV, eV/Å; virial W = -dE/dε in eV, row-major"
        for number, (name, spec) in enumerate(MODELS.items()):
            n_types = spec.get("n_types", 1)
            frames = random_frames(rng, n_types, number)
            sel = [int(n) + SPARE_SLOTS for n in neighbours_needed(frames, n_types)]
            tree, script = random_model(rng, sel, **spec)
            backend = spec.get("backend", "PyTorch")
            if backend == "TensorFlow":
                results = evaluate_tensorflow(tree, script, frames)
            else:
                results = []
                for k, frame in enumerate(frames):
                    c = rng.normal(size=frame["positions"].shape), rng.normal(size=(3, 3))
                    results.append(evaluate_pytorch(tree, frame, c if k < 2 else None))
            flat = Flat()
            frames = [f | r for f, r in zip(frames, results, strict=True)]
            entry = {"script": script, "tree": tree, "frames": frames}
            text = json.dumps(flat.pack(entry), separators=(",", ":"))
            data = file.create_dataset(name, data=flat.array(), compression=9, shuffle=True)
            data.attrs["json"] = text
            data.attrs["backend"] = backend
            print(f"{name:20s} {backend:10s} E =", *(f"{r['energy']:.6f}" for r in results))


#: model file → the backend that freezes it, and the stored model it holds
FILES = {
    "from_pytorch.dp": ("pt", "first_layer_skips"),
    "from_tensorflow.dp": ("tf", "two_sided"),
    "from_pytorch.yaml": ("pt", "smallest"),
}
FILES_3_0 = {"from_3_0_pytorch.dp": ("pt", "two_sided_idt")}


def unpack(node, flat):
    """The inverse of `Flat.pack`."""
    if isinstance(node, dict) and "@array" in node:
        start, shape = node["@array"]
        return flat[start : start + int(np.prod(shape))].reshape(shape)
    if isinstance(node, dict):
        return {k: unpack(v, flat) for k, v in node.items()}
    return [unpack(v, flat) for v in node] if isinstance(node, list) else node


def transplant(values, tree, below_variables=False):
    """The tree of another version with the arrays of the stored one."""
    if isinstance(tree, dict):
        return {
            k: transplant(values.get(k, v), v, below_variables or k == "@variables") for k, v in tree.items()
        }
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        return [transplant(v, t, below_variables) for v, t in zip(values, tree, strict=True)]
    return values if below_variables else tree


def write_model_files(folder, files):
    """A few models as DeePMD-kit writes them: by way of its own formats and ``convert-backend``."""
    from deepmd.entrypoints.convert_backend import convert_backend
    from deepmd.pt.model.model import get_model

    for name, (backend, model) in files.items():
        with h5py.File(folder / "deepmd_models.h5", "r") as file:
            entry = unpack(json.loads(file[model].attrs["json"]), file[model][()])
        script = entry["script"]
        tree = transplant(entry["tree"], get_model(copy.deepcopy(script)).serialize())
        data = {"model": tree, "model_def_script": script, "@variables": {"min_nbor_dist": 0.875}}
        with tempfile.TemporaryDirectory() as scratch:
            frozen = os.path.join(scratch, "model" + {"pt": ".pth", "tf": ".pb"}[backend])
            import_module(f"deepmd.{backend}.utils.serialization").deserialize_to_file(frozen, data)
            convert_backend(INPUT=frozen, OUTPUT=str(folder / name))


def main(folder):
    import deepmd

    if deepmd.__version__.startswith("3.0."):
        write_model_files(folder, FILES_3_0)
    else:
        write_reference(folder / "deepmd_models.h5")
        write_model_files(folder, FILES)


if __name__ == "__main__":
    here = Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    main(here if here.is_dir() else here.parent)
