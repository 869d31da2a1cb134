"""Choose frames worth labelling from a pool without labels: each as if those chosen before it were labelled,
by the P of a model; or those that several models (a committee) differ most on.
Writes them as extended XYZ (and POSCARs), ready for DFT, and a table that says why each was chosen."""

from __future__ import annotations

#: Started by mpiexec it shares the frames of the pool out over the ranks.
ON_RANKS = True


def add_arguments(parser) -> None:
    parser.add_argument(
        "-m", "--model", required=True, nargs="+", metavar="MODEL",
        help="a model file, or a checkpoint; several models choose by how far their forces differ",
    )  # fmt: skip
    parser.add_argument(
        "-s", "--system", required=True, nargs="+", metavar="POOL", help="frames to choose from"
    )
    parser.add_argument("-n", "--number", type=int, required=True, metavar="N", help="how many frames")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="take P from the checkpoint of the run that MODEL came from"
    )
    parser.add_argument(
        "--data", nargs="+", metavar="DATA",
        help="without a checkpoint: make P from frames that MODEL was trained with (Laplace approximation)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", default="selected.extxyz", metavar="FILE", help="[selected.extxyz]")
    parser.add_argument("--poscar", metavar="FOLDER", help="also write POSCAR-0001, … into this new folder")


def run(args) -> int:
    from collections.abc import Iterator
    from dataclasses import replace
    from pathlib import Path

    from kalmandp.commands.wording import plural
    from kalmandp.errors import InputError
    from kalmandp.files import naming, replacing
    from kalmandp.formats.extxyz import write_extxyz
    from kalmandp.frames.dataset import Dataset
    from kalmandp.potentials.potential import Potential
    from kalmandp.ranks.team import team_of
    from kalmandp.training import committee
    from kalmandp.training.choosing import Chosen, choose, laplace
    from kalmandp.training.uncertainty import UncertainPotential

    if args.number < 1:
        raise InputError(f"-n is {args.number}; expected a number of frames, at least 1")
    if args.checkpoint and args.data:
        raise InputError("--checkpoint and --data both give P; expected one of them")
    potential, kalman, team = None, None, team_of()
    model, *others = args.model
    if others and (args.checkpoint or args.data):
        raise InputError("--checkpoint and --data give the P of one model; expected one -m, or neither")
    if not (args.checkpoint or args.data or others) and _is_checkpoint(model):
        args.checkpoint = model
    else:
        potential = Potential.load(model)
    if others:
        pass
    elif args.checkpoint:
        known = UncertainPotential.from_checkpoint(args.checkpoint, potential)
        potential, kalman = known.potential, known.filter
    elif args.data:
        assert potential is not None
        with Dataset(args.data, potential.type_map) as data:
            kalman = laplace(potential, data)
    else:
        raise InputError(
            f"{model} is a model without P; expected --checkpoint FILE (of its run) or --data FRAMES "
            "(those it was trained with), or several models"
        )
    assert potential is not None
    with Dataset(args.system, potential.type_map) as pool:
        chosen, frames = [], []
        print(f"{'':>5} {'frame':>7} {'σ_F':>9} {'at first':>9} {'worst atom':>14}   (meV/Å)")
        found: Iterator[Chosen]
        if others:
            members = [potential, *map(Potential.load, others)]
            found = committee.choose(members, pool, args.number, team)
        else:
            assert kalman is not None
            found = choose(potential, kalman, pool, args.number, team)
        for c in found:
            chosen.append(c)
            frames.append(replace(
                pool[c.frame], energy=None, forces=None, virial=None, atomic_energies=None
            ))  # fmt: skip
            print(
                f"{len(chosen):>5} {c.frame:>7} {1e3 * c.sigma:>9.1f} {1e3 * c.first:>9.1f} "
                f"{1e3 * c.largest:>8.1f} (#{c.atom})   {pool.source(c.frame)}", flush=True,
            )  # fmt: skip
        sources = [pool.source(c.frame) for c in chosen]
    if team is not None and team.rank:  # rank 0 writes
        return 0
    write_extxyz(args.output, frames)
    why = Path(args.output).with_suffix(".why")
    lines = ["# n frame sigma_F first largest atom source   (meV/Angstrom; sigma_F: those above being known)"]
    for n, (c, source) in enumerate(zip(chosen, sources, strict=True), start=1):
        numbers = " ".join(f"{1e3 * x:.2f}" for x in (c.sigma, c.first, c.largest))
        lines.append(f"{n} {c.frame} {numbers} {c.atom} {source}")
    with replacing(why) as beside, naming(why):
        Path(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")
    written = [args.output, str(why)]
    if args.poscar:
        with replacing(args.poscar, folder=True) as beside, naming(args.poscar):
            for n, frame in enumerate(frames, start=1):
                (Path(beside) / f"POSCAR-{n:04d}").write_text(_poscar(frame), encoding="utf-8")
        written.append(args.poscar)
    print(f"{plural(len(frames), 'frame')} of {args.number} asked for: {', '.join(written)}")
    return 0


def _is_checkpoint(path: str) -> bool:
    import h5py

    from kalmandp.training.state.checkpoint import FORMAT

    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("format") == FORMAT.encode()
    except OSError:
        return False


def _poscar(frame) -> str:
    """VASP's POSCAR: atoms of one species side by side, in Cartesian coordinates."""
    from kalmandp.errors import InputError

    if frame.cell is None:
        raise InputError(f"{frame.source} has no cell; expected one for a POSCAR (or leave --poscar out)")
    order = sorted(range(len(frame)), key=lambda i: frame.types[i])
    species = list(dict.fromkeys(frame.type_map[frame.types[i]] for i in order))
    counts = [sum(s == name for s in frame.symbols) for name in species]
    row = lambda r: " ".join(f"{x:20.14f}" for x in r)
    lines = [frame.source, "1.0", *map(row, frame.cell), " ".join(species), " ".join(map(str, counts))]
    return "\n".join([*lines, "Cartesian", *(row(frame.positions[i]) for i in order)]) + "\n"
