"""The pages of the documentation, from what the repository has: its texts, the gallery's scripts, docstrings.

The tree is copied as it is, so that links between texts hold; a script of the gallery becomes a page of text
and code with its picture; every module gets a page of its own.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import shutil
from pathlib import Path

import kalmandp

ROOT = Path(__file__).resolve().parents[2]
#: What the texts link to and show.
COPIED = ("*.md", "*.png", "*.py", "*.json", "*.xml", "in.*", "*.dp")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
TEXT_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)\)")

INDEX = """\
# kalmandp

```{toctree}
:maxdepth: 1

The first hour <README>
Examples <examples/README>
Gallery <examples/gallery/README>
Inputs and keys <examples/deepmd_input/README>
You come from GPUMD <examples/gpumd/README>
A potential that grows inside the simulation <examples/on_the_fly/README>
You come from n2p2 <examples/n2p2/README>
A NEP of silicon <examples/nep/README>
Add your own <examples/add_your_own/README>
Exercises <examples/exercises/README>
From formula to line to test <examples/map>
The paper's study <examples/study/README>
reference/index
{more}
```
"""


def write_sources(folder: Path) -> None:
    """Write all that Sphinx reads."""
    _copy_texts(folder)
    more = [_gallery_page(folder, script) for script in sorted((ROOT / "examples/gallery").glob("[0-9]*.py"))]
    _hide(folder / "examples/gallery/README.md", more)
    _reference(folder / "reference")
    others = ["kalmandp/CHANGELOG", "examples/benchmarks/README"]
    others = [page for page in others if (folder / f"{page}.md").exists()]
    (folder / "index.md").write_text(INDEX.replace("{more}", "\n".join(others)), encoding="utf-8")


def _copy_texts(folder: Path) -> None:
    for pattern in COPIED:
        found = [*ROOT.glob(pattern), *(ROOT / "examples").rglob(pattern), *(ROOT / "kalmandp").glob("*.md")]
        for path in found:
            if path.match(pattern) and "site" not in path.relative_to(ROOT).parts:
                target = folder / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    for name in ("LICENSE",):
        shutil.copyfile(ROOT / name, folder / name)
    for page in (folder / "examples" / "study" / "results").glob("*.md"):
        page.write_text("---\norphan: true\n---\n" + page.read_text(encoding="utf-8"), encoding="utf-8")
    for page in folder.rglob("*.md"):
        page.write_text(_linked(page, folder), encoding="utf-8")


def _linked(page: Path, folder: Path) -> str:
    """A text whose links to folders go to their README, and those to scripts of the gallery to their page."""

    def target(match: re.Match) -> str:
        path, anchor = match[1], match[2] or ""
        source = ROOT / page.relative_to(folder).parent / path
        if source.is_dir():
            if not (source / "README.md").is_file():
                return match[0]  # a folder without a page becomes plain text
            path = f"{path.rstrip('/')}/README.md"
        elif source.parent.name == "gallery" and re.match(r"\d\d_.*\.py$", source.name):
            path = path.removesuffix(".py") + ".md"
        return f"]({path}{anchor})"

    def unlinked(match: re.Match) -> str:
        source = ROOT / page.relative_to(folder).parent / match[2]
        return match[1] if source.is_dir() else match[0]

    return TEXT_LINK.sub(unlinked, LINK.sub(target, page.read_text(encoding="utf-8")))


def _gallery_page(folder: Path, script: Path) -> str:
    """Cells of text and of code as one page; the picture stands below the title."""
    cells = re.split(r"^# %%", script.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    parts = []
    for cell in cells:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            parts.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines()))
        elif body.strip():
            parts.append(f"```python\n{body.strip()}\n```")
    title, _, rest = parts[0].partition("\n")
    picture = f"![what {script.stem} draws]({script.stem}.png)"
    command = f"python examples/gallery/{script.name}"
    run = f"Run it: `{command}`, or open it as a notebook ({{download}}`{script.name}`)."
    text = "\n\n".join([title, picture, run, rest, *parts[1:]])
    (folder / "examples/gallery" / f"{script.stem}.md").write_text(text + "\n", encoding="utf-8")
    return script.stem


def _hide(page: Path, names: list[str]) -> None:
    """Pages that a text links to stand below it in the contents."""
    listed = "\n".join(names)
    with open(page, "a", encoding="utf-8") as file:
        file.write(f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n")


def _reference(folder: Path) -> None:
    """The public names on one page, then a page for each module, by package."""
    folder.mkdir()
    found = pkgutil.walk_packages(kalmandp.__path__, "kalmandp.")
    names = "\n".join(map(_public_line, kalmandp.__all__))
    title = f"Public names\n{'=' * 12}\n\nWhat ``import kalmandp`` gives.\n\n"
    (folder / "public.rst").write_text(f"{title}{names}\n", encoding="utf-8")
    modules = ["kalmandp", *(m.name for m in found if not m.name.endswith("__main__"))]
    for name in modules:
        _module_page(folder, name, [m for m in modules if m.rpartition(".")[0] == name])
    (folder / "index.md").write_text(
        "# API reference\n\nThe names that `import kalmandp` gives, then every module: equations, shapes, "
        "units, source.\n\n```{toctree}\n:maxdepth: 2\n\npublic\nkalmandp\n```\n", encoding="utf-8",
    )  # fmt: skip


def _public_line(name: str) -> str:
    """A link to where a name is explained, and the first line of its explanation."""
    subject = getattr(kalmandp, name)
    first = (inspect.getdoc(subject) or "").partition("\n")[0].replace("|", "\\|")
    where = f"{subject.__module__}.{subject.__qualname__}"
    return f"- :py:obj:`{name} <{where}>`: {first}"


def _module_page(folder: Path, name: str, inner: list[str]) -> None:
    lines = [name, "=" * len(name), "", f".. automodule:: {name}"]
    if name != "kalmandp":
        lines += ["   :members:", "   :ignore-module-all:"]
    if inner:
        lines += ["", ".. toctree::", "   :maxdepth: 1", "", *(f"   {m}" for m in inner)]
    (folder / f"{name}.rst").write_text("\n".join(lines) + "\n", encoding="utf-8")
