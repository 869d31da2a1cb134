"""A descriptor of one's own: what would a Deep Potential see with rows of second order?

    python examples/add_your_own/second_order.py [--data TRAIN TEST] [--frames 300] [--smoke]

The descriptor D = Σ_k T_k T_kᵀ of `se_e2_a` is built of R̃'s four rows s and s n: of sums over the neighbours
of order 0 and 1 in their directions n. Where an atom is a centre of inversion those of order 1 vanish, and of
the angle between two neighbours D holds the cosine alone. Here the nine rows of order 2 are added, the
traceless part of n nᵀ, whose scalar products are invariant, too::

    R_ab = s (n_a n_b − δ_ab/3),     ∂R_ab/∂r_c = s′ n_c (n_a n_b − δ_ab/3) + (s/r) (p_ac n_b + n_a p_bc)
    p_ac = δ_ac − n_a n_c

Nothing else changes: T, D, the forces, their Jacobians and the filter do not count the rows. So the new kind
of potential is a form with a name of its own, a descriptor whose environment has more rows, and a row of the
registry (`KINDS`) that says where they are; the networks have the same weights. It is trained as any other,
by an input whose model is of type "second_order". Both kinds learn the same frames, by the reference's
NumPy, which takes its time. No other program knows it: it has no model file, and nothing is saved.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

import kalmandp
from kalmandp.arrays import namespace
from kalmandp.geometry.cutoff import switch
from kalmandp.potentials.deep_potential import new as deep_potential
from kalmandp.potentials.deep_potential import section
from kalmandp.potentials.deep_potential.architecture import Architecture
from kalmandp.potentials.deep_potential.descriptor import DeepPotential
from kalmandp.registry import KINDS, register
from kalmandp.training.loop import Run
from kalmandp.training.report.metrics import evaluate

NAME = "second_order"
DATA = Path(__file__).parents[2] / "data"


def second_order_rows(r_pc, rcut_smth: float, rcut: float):
    """R_ab (p, 9), 1/Å, and ∂R_ab/∂r_c (p, 9, 3), 1/Å², beside `environment.raw_environment`."""
    xp = namespace(r_pc)
    r_p = xp.sqrt((r_pc**2).sum(-1))[:, None, None]
    w_p, dw_p = (x[:, None, None] for x in switch(r_p[:, 0, 0], rcut_smth, rcut))
    s_p, n_pc = w_p / r_p, r_pc / r_p[:, 0]
    nn_pab = n_pc[:, :, None] * n_pc[:, None, :]
    Q_pab = nn_pab - xp.eye(3) / 3
    tilt = xp.einsum("pac,pb->pabc", xp.eye(3) - nn_pab, n_pc)  # p_ac n_b, and with a, b exchanged n_a p_bc
    ds_pc = ((dw_p - s_p) / r_p)[:, 0] * n_pc
    dR_pabc = Q_pab[..., None] * ds_pc[:, None, None] + (s_p / r_p)[..., None] * (tilt + tilt.swapaxes(1, 2))
    return (s_p * Q_pab).reshape(-1, 9), dR_pabc.reshape(-1, 9, 3)


class SecondOrderForm(Architecture):
    """The choices of `se_e2_a`, under a name of its own."""

    kind: ClassVar[str] = NAME


class SecondOrder(DeepPotential):
    """D of thirteen rows instead of four; every pass is inherited."""

    def environment(self, statistics, geometry):
        env, a, xp = super().environment(statistics, geometry), self.form, namespace(geometry.r_pc)
        g = env.geometry  # without excluded pairs
        R_pk, dR_pkc = second_order_rows(g.r_pc, a.rcut_smth, a.rcut)
        scale_p = 0.5 * statistics["dstd"][g.types_i[g.i_p], 1]  # about their spread
        return env._replace(
            Rt_pk=xp.hstack([env.Rt_pk, R_pk / scale_p[:, None]]),
            dRt_pkc=xp.concatenate([env.dRt_pkc, dR_pkc / scale_p[:, None, None]], axis=1),
            Rt_vk=xp.hstack([env.Rt_vk, xp.zeros((len(env.Rt_vk), 9))]),
        )


def new(type_map, frames, rng, **choices):
    """Form, statistics and first weights of `se_e2_a`."""
    made = deep_potential.new(type_map, frames, rng, **choices)
    return made._replace(form=SecondOrderForm(**made.form.to_dict()))


def read_section(read, value):
    """The section ``model`` of an input: the keys of `se_e2_a`."""
    return replace(section.read_section(read, {**value, "type": "standard"}), kind=NAME)


register(NAME, KINDS["se_e2_a"]._replace(
    form=f"{__name__}:SecondOrderForm", descriptor=f"{__name__}:SecondOrder", new=f"{__name__}:new",
    section=f"{__name__}:read_section", files=__name__, fused={}, usage=None,
))  # fmt: skip

#: The module of its model files, which the registry asks for: there are none.
FORMAT, DEFAULT, SUFFIXES = "none of second_order", "", ()
compression = sections = None


def recognises(path) -> bool:
    """No file is one of this kind."""
    return False


def write(potential, path) -> None:
    """No other program could read it."""
    raise kalmandp.InputError(f"{path}: a potential {NAME} has no model file; expected another kind")


def settings(kind: str, train: str, test: str, rcut: float, smoke: bool):
    """An ordinary input: the RLEKF paper's network, the default optimizer."""
    embedding, axis, fitting = ([4, 8], 4, [8, 8]) if smoke else ([25, 25, 25], 16, [50, 50, 50])
    descriptor = {
        "type": "se_e2_a", "sel": "auto", "rcut": rcut, "neuron": embedding, "axis_neuron": axis,
        "type_one_side": True,
    }  # fmt: skip
    return kalmandp.read_input({
        "model": {"type": kind, "descriptor": descriptor, "fitting_net": {"neuron": fitting}},
        "optimizer": {"type": "RLEKF"},
        "training": {
            "training_data": {"systems": [train]}, "validation_data": {"systems": [test]}, "numb_epoch": 1,
            "seed": 1, "disp_freq": 10**9, "save_freq": 10**9,
        },
    })  # fmt: skip


def check(potential, frame) -> None:
    """Forces are −∂E/∂r, and turning the frame turns them: or stop."""
    energy = lambda frame: potential.evaluate(frame)[0]
    _, forces, _, _ = potential.evaluate(frame)
    move, step = np.random.default_rng(0).normal(size=forces.shape), 1e-4
    ends = [energy(replace(frame, positions=frame.positions + h * move)) for h in (step, -step)]
    np.testing.assert_allclose((ends[1] - ends[0]) / (2 * step), (forces * move).sum(), rtol=1e-5)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned = replace(frame, positions=frame.positions @ turn, cell=frame.cell @ turn)
    np.testing.assert_allclose(potential.evaluate(turned)[1], forces @ turn, atol=1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    silicon = [str(DATA / f"si64_lda_{part}.h5") for part in ("train", "test")]
    parser.add_argument("--data", nargs=2, metavar=("TRAIN", "TEST"), default=silicon)
    parser.add_argument("--frames", type=int, default=300, help="steps of training (300)")
    parser.add_argument("--rcut", type=float, default=6.0, help="cut-off in Å (6)")
    parser.add_argument("--smoke", action="store_true", help="small networks, a few frames: does it work?")
    asked = parser.parse_args()
    steps = 4 if asked.smoke else asked.frames
    print(f"{'rows':>5} {'steps':>6} {'meV/atom':>9} {'meV/Å':>7} {'MAE':>6} {'s':>6}")
    for rows, kind in ((4, "standard"), (13, NAME)):
        with tempfile.TemporaryDirectory() as folder:
            run = Run(settings(kind, *asked.data, asked.rcut, asked.smoke), folder, engine="numpy")
            check(run.potential, run.data[0])
            unseen = run.validation[:4] if asked.smoke else run.validation
            began = time.perf_counter()
            for step in range(1, steps + 1):
                run.step()
                if step in (steps // 4, steps // 2, steps):
                    errors = evaluate(run.result(), unseen)
                    print(
                        f"{rows:5} {step:6} {1e3 * errors.energy_rmse:9.2f} {1e3 * errors.force_rmse:7.1f} "
                        f"{1e3 * errors.force_mae:6.1f} {time.perf_counter() - began:6.0f}", flush=True,
                    )  # fmt: skip


if __name__ == "__main__":
    main()
