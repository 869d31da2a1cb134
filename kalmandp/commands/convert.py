"""Convert frames to an HDF5 file (.hdf5, .h5), extended XYZ (.xyz, .extxyz), RuNNer's input.data
(.data) or a deepmd/npy folder (a name without suffix). Reads outputs of VASP, Quantum ESPRESSO, CP2K,
ABINIT, FHI-aims and PWmat, extended XYZ, dumps of LAMMPS, .cfg of MLIP, .npz of sGDML, input.data,
DeePMD-kit's layouts, and what ASE and dpdata read. Steps whose SCF cycle did not converge are left out;
for what ASE and dpdata read that is not always known, and a note says so."""

from __future__ import annotations

import os
import re
import sys

#: Frames left out that are named one by one; of more, only their number is printed.
SHOWN = 20


def add_arguments(parser) -> None:
    parser.add_argument("source", nargs="+", metavar="SRC", help="files or folders to read")
    parser.add_argument("destination", metavar="DST", help="file or folder to write")
    parser.add_argument(
        "--format", metavar="F",
        help="format of SRC, if it is not recognised: vasp/outcar, vasp/xml, espresso/pw, espresso/cp, cp2k, "
        "abinit, aims, pwmat/movement, lammps/dump, mtp, npz, runner, extxyz, deepmd/hdf5, deepmd/npy, ase, "
        "ase:NAME, dpdata:NAME",
    )  # fmt: skip
    parser.add_argument("--type-map", nargs="+", metavar="EL", help="names of the types, in this order")
    parser.add_argument("--index", metavar="A:B:C", help="only these frames, as in Python: ::10")
    parser.add_argument(
        "--without",
        metavar="N,N-N",
        default="",
        help="leave out these frames, numbered from 0 as by `kalmandp doctor`: 3,7,9-10",
    )
    parser.add_argument(
        "--key", action="append", default=[], metavar="LABEL=NAME",
        help="name of a label in extended XYZ or in what ASE reads, e.g. energy=REF_energy; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--unit", action="append", default=[], metavar="LABEL=UNIT",
        help="unit of SRC's length, energy, force, virial or stress, in place of what the file states, e.g. "
        "energy=hartree; -eV turns the sign; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--skip-invalid", action="store_true", help="leave out frames and files that cannot be used"
    )
    parser.add_argument(
        "--keep-unconverged", action="store_true", help="take steps whose SCF cycle did not converge"
    )
    parser.add_argument("--mixed", action="store_true", help="write a folder as deepmd/npy/mixed")
    parser.add_argument("--no-overwrite", action="store_true", help="refuse to replace DST")
    parser.add_argument("--compress", action="store_true", help="compress HDF5 (gzip)")


def arranged(words: list[str]) -> list[str]:
    """The words in an order that argparse understands: ``--index -5:``, ``--type-map Na Cl SRC DST``."""
    front: list[str] = []
    names: list[str] = []
    k = 0
    while k < len(words):
        word = words[k]
        if word in ("--index", "--without") and words[k + 1 : k + 2] and re.match(r"-\d", words[k + 1]):
            front.append(f"{word}={words[k + 1]}")
            k += 2
        elif word == "--type-map":
            k += 1
            taken = k
            while k < len(words) and _is_name(words[k]):
                k += 1
            names += words[taken:k] if not names else []
            if taken == k:
                front.append(word)
        else:
            front.append(word)
            k += 1
    return [*front, "--type-map", *names] if names else front


def _is_name(word: str) -> bool:
    """Whether a word is the name of a type rather than an option or a file."""
    return not word.startswith("-") and not re.search(r"[./\\]", word) and not os.path.exists(word)


def run(args) -> int:
    from kalmandp.commands.wording import plural
    from kalmandp.formats.convert import convert

    done = convert(
        args.source,
        args.destination,
        format=args.format,
        type_map=args.type_map,
        index=args.index,
        without=args.without or (),
        keys=_pairs("--key", "NAME", args.key, "energy=REF_energy"),
        units=_pairs("--unit", "UNIT", args.unit, "energy=hartree"),
        skip_invalid=args.skip_invalid,
        overwrite=not args.no_overwrite,
        compression="gzip" if args.compress else None,
        keep_unconverged=args.keep_unconverged,
        mixed=args.mixed,
    )
    say = lambda text: print(text, file=sys.stderr)
    for message in done.skipped[:SHOWN]:
        say(f"left out: {message}")
    if len(done.skipped) > SHOWN:
        say(f"left out: {len(done.skipped) - SHOWN} more")
    if done.skipped:
        reasons = ", ".join(f"{why} ({n:,})" for why, n in done.reasons().items())
        say(f"warning: left out of {done.path}: {reasons}")
    for note in done.notes:
        say(f"note: {note}")
    for label, name in _taken_for(done):
        say(f"note: no frame has {label}; if {name} is it, add --key {label}={name}")
    for warning in done.warnings:
        say(f"warning: {warning}")
    for label, fate in done.fates():
        say(f"{label}: {fate}")
    labels = ", ".join(f"{label} ({n:,})" for label, n in done.labels.items()) or "no labels"
    systems = plural(done.systems, "system")
    print(f"{done.path}: {plural(done.frames, 'frame')} in {systems}; {labels}")
    return 0


def _taken_for(done) -> list[tuple[str, str]]:
    """Labels that no frame has, and a name in the source that looks like each."""
    words = {"energy": ("energy",), "forces": ("force",), "virial": ("virial", "stress")}
    found = []
    for label, known in words.items():
        names = [n for word in known for n in done.ignored if word in n.lower() and " " not in n]
        if label not in done.labels and names:
            found.append(("stress" if "stress" in names[0].lower() else label, names[0]))
    return found


def _pairs(option: str, what: str, texts: list[str], example: str) -> dict[str, str] | None:
    from kalmandp.errors import InputError

    pairs = {}
    for text in texts:
        label, equals, name = text.partition("=")
        if not (label and equals and name):
            raise InputError(f"{option} is {text!r}; expected LABEL={what}, e.g. {example}")
        pairs[label] = name
    return pairs or None
