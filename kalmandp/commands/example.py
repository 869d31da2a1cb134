"""Copy an example, its input and data, into a folder of your own, ready to be trained. Without a name the
examples are listed."""

from __future__ import annotations

from pathlib import Path

#: Name of an example (a folder of `kalmandp.examples`) -> what it is.
EXAMPLES = {
    "silicon": "diamond silicon, 64 atoms, LDA: 91 frames to train on, 24 to judge by; half a minute",
}


def add_arguments(parser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of: {', '.join(EXAMPLES)}")
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="where to [./NAME]")


def run(args) -> int:
    import shlex

    from kalmandp.errors import InputError

    if args.name is None:
        print("\n".join(f"{name}  {what}" for name, what in EXAMPLES.items()))
        return 0
    if args.name not in EXAMPLES:
        raise InputError(f"the example is {args.name!r}; expected one of: {', '.join(EXAMPLES)}")
    folder = Path(args.folder or args.name)
    for path in copy(args.name, folder):
        print(path)
    place = shlex.quote(str(folder))
    print(f"\ntrain it with:  kalmandp train {place}/input.json -o {place}/run")
    return 0


def copy(name: str, folder: Path) -> list[Path]:
    """Copy the files of an example; none if one of them is there already. Returns their paths.

    Raises
    ------
    FileError
        If a file is in the way, or the folder cannot be written.
    """
    from importlib import resources

    from kalmandp.errors import FileError
    from kalmandp.files import make_folder, naming, replacing

    source = resources.files("kalmandp.examples") / name
    files = sorted((f for f in source.iterdir() if f.is_file()), key=lambda f: f.name)
    for path in (folder / f.name for f in files):
        if path.exists():
            raise FileError(f"{path}: is there already, and nothing was copied; expected another folder")
    make_folder(folder)
    for file in files:
        path = folder / file.name
        with replacing(path) as beside, naming(path):
            Path(beside).write_bytes(file.read_bytes())
    return [folder / f.name for f in files]
