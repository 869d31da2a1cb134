"""Convert frames to an HDF5 file (.hdf5, .h5), extended XYZ (.xyz, .extxyz) or a deepmd/npy folder
(a name without suffix). Reads extended XYZ, DeePMD-kit's layouts, and what ASE and dpdata read."""

from __future__ import annotations

import sys


def add_arguments(parser) -> None:
    parser.add_argument("source", nargs="+", metavar="SRC", help="files or folders to read")
    parser.add_argument("destination", metavar="DST", help="file or folder to write")
    parser.add_argument(
        "--format", metavar="F",
        help="of SRC where its name does not tell: extxyz, deepmd/hdf5, deepmd/npy, ase, ase:NAME, "
        "dpdata:NAME",
    )  # fmt: skip
    parser.add_argument("--type-map", nargs="+", metavar="EL", help="names of the types, in this order")
    parser.add_argument("--index", metavar="A:B:C", help="only these frames, as in Python: ::10")
    parser.add_argument(
        "--key", action="append", default=[], metavar="LABEL=NAME",
        help="name of a label in extended XYZ, e.g. energy=REF_energy; may be repeated",
    )  # fmt: skip
    parser.add_argument("--skip-invalid", action="store_true", help="leave out frames that cannot be used")
    parser.add_argument("--no-overwrite", action="store_true", help="refuse to replace DST")
    parser.add_argument("--compress", action="store_true", help="compress HDF5 (gzip)")


def run(args) -> int:
    from kalmandp.commands.wording import plural
    from kalmandp.frames.convert import convert

    done = convert(
        args.source,
        args.destination,
        format=args.format,
        type_map=args.type_map,
        index=args.index,
        keys=_keys(args.key),
        skip_invalid=args.skip_invalid,
        overwrite=not args.no_overwrite,
        compression="gzip" if args.compress else None,
    )
    for message in done.skipped[:20]:
        print(f"left out: {message}", file=sys.stderr)
    if len(done.skipped) > 20:
        print(f"left out: {len(done.skipped) - 20} more", file=sys.stderr)
    if done.ignored:
        print(f"note: not taken over: {', '.join(done.ignored)}", file=sys.stderr)
    labels = ", ".join(f"{label} ({n:,})" for label, n in done.labels.items()) or "no labels"
    systems = plural(done.systems, "system")
    print(f"{done.path}: {plural(done.frames, 'frame')} in {systems}; {labels}")
    return 0


def _keys(pairs: list[str]) -> dict[str, str] | None:
    from kalmandp.errors import InputError

    keys = {}
    for pair in pairs:
        label, equals, name = pair.partition("=")
        if not (label and equals and name):
            raise InputError(f"--key is {pair!r}; expected LABEL=NAME, e.g. energy=REF_energy")
        keys[label] = name
    return keys or None
