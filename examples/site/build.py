"""Build the documentation:  pip install ".[docs]" && python examples/site/build.py [FOLDER]

Writes HTML into ``site/`` (or the folder given): the texts of the repository, the gallery with its pictures,
the API reference. It can be read and searched without a network; every link within it is checked.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from links import broken
from sources import write_sources
from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent


def main(folder: Path) -> int:
    with tempfile.TemporaryDirectory() as work:
        sources = Path(work) / "sources"
        sources.mkdir()
        write_sources(sources)
        arguments = ["-b", "html", "-c", str(HERE), "-d", f"{work}/doctrees", "-q"]
        if status := build_main([*arguments, str(sources), str(folder)]):
            return status
    _drop_what_is_not_shown(folder / "_modules" / "index.html")
    wrong = broken(folder)
    for line in wrong:
        print(f"link: {line}", file=sys.stderr)
    print(f"{len(list(folder.rglob('*.html')))} pages in {folder}/index.html")
    return int(bool(wrong))


def _drop_what_is_not_shown(page: Path) -> None:
    """Sphinx lists modules of other packages whose source it does not show."""

    def kept(match: re.Match) -> str:
        return match[0] if (page.parent / match[1]).is_file() else ""

    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub(r'<li><a href="([^"]+)">[^<]*</a></li>\n?', kept, text), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", default="site", type=Path)
    sys.exit(main(parser.parse_args().folder))
