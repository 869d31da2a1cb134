"""Build the API reference from the docstrings:  pip install ".[docs]" && python examples/make_reference.py

Writes HTML into ``site/`` (or the folder given): the public names first, then every module, each function
with its equation, shapes, units and source text.
"""

from __future__ import annotations

import argparse
import pkgutil
import warnings
from pathlib import Path

import pdoc

import kalmandp


def modules() -> list[str]:
    """The package and all its modules, but the one that runs when the package is started."""
    found = pkgutil.walk_packages(kalmandp.__path__, "kalmandp.")
    return ["kalmandp", *(m.name for m in found if not m.name.endswith("__main__"))]


def main(folder: Path) -> None:
    # annotations of NamedTuples are texts that pdoc cannot look up; it shows them as they are
    warnings.filterwarnings("ignore", message="Error parsing type annotation ForwardRef")
    pdoc.render.configure(docformat="numpy", search=True, show_source=True)
    pdoc.pdoc(*modules(), output_directory=folder)
    print(f"{len(list(folder.rglob('*.html')))} pages in {folder}/index.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", default="site", type=Path)
    main(parser.parse_args().folder)
