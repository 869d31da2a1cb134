"""The settings that stand beside the default in the part ``noise``: keys of the input's section optimizer."""

from __future__ import annotations

from runs import Optimizer, Study, optimizer, with_keys

ALTERNATIVES: dict[str, dict] = {
    "not averaged": {"averaging": 0.0},
    "l1": {"norm": "l1"},
    "4 groups of 6 atoms, l1": {"n_groups": 4, "group_size": 6, "norm": "l1"},
    "not coupled": {"coupled": False, "block_size": 128},
    "not coupled, N_b 5120": {"coupled": False},
    "N_b 32": {"block_size": 32},
    "N_b 1024": {"block_size": 1024},
    "N_b 5120": {"block_size": 5120},
    "fixed R": {"adapt": 0.0},
    "γ 1": {"adapt": 1.0},
    "γ 2": {"adapt": 2.0},
    "σ_E × 5": {"sigma_e": 0.0017},
    "σ_F × 3": {"sigma_f": 0.03},
    "P₀ 0.1": {"p0": 0.1},
    "P₀ 0.01": {"p0": 0.01},
    "λ₁ 0.98, ν 0.9987": {"lam": 0.98, "nu": 0.9987},
    "signed": {"measurement": "signed"},
    "joint": {"measurement": "joint"},
}
#: The default beginning with the weights that DeePMD-kit would draw.
DEEPMD_START = "DeePMD-kit's initial weights"
#: Presets beside them: the default of before, the paper's Algorithm 1 and the public codes.
PRESETS = ("v0.6", "paper", "deepmd")


def alternatives(study: Study) -> list[Optimizer]:
    """The default first, then presets, alternatives and those that the study was given with their keys."""
    changed = [with_keys(name, keys) for name, keys in ALTERNATIVES.items()]
    own = [optimizer(name) for name in study.optimizers if "=" in name]
    start = with_keys(DEEPMD_START, {})
    known = [optimizer("default"), *(optimizer(name) for name in PRESETS), start, *changed]
    return [*(known[:2] if study.smoke else known), *own]
