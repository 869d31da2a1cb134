"""Compiled kernels whose parts have changed are forgotten.

Numba keeps a kernel beside its source and compiles it again when that file has changed. What a kernel is
made of (`threads.PART`) often stands in other files, and of those Numba knows nothing: who edits a part
would go on with the old one. So each kept kernel's age is compared with all files that its own imports,
straight or by way of others. And a kernel is kept with the types of its arguments by name: one that names a
class which an update of the package has moved could not be loaded, and goes, too. Where nothing was edited
all this costs a look at the files' times.
"""

from __future__ import annotations

import ast
import contextlib
import os
import pickletools
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1]


def forget_stale_kernels(root: Path = HERE, package: Path = PACKAGE) -> list[Path]:
    """Remove what is kept of kernels below ``root`` that are older than a file they are made of.

    Parameters
    ----------
    root : folder whose ``__pycache__`` folders hold compiled kernels (Numba's ``.nbi`` files)
    package : folder of the package that their modules import each other from

    Returns
    -------
    list of Path : the files that were removed. A folder that cannot be written to is left as it is.
    """
    removed: list[Path] = []
    with contextlib.suppress(OSError):  # another process does the same, or nothing may be written here
        sources = {path: path.stat().st_mtime for path in sorted(root.rglob("*.py"))}
        kept = {path: path.stat().st_mtime for path in sorted(root.rglob("*.nbi"))}
        newest = max(sources.values(), default=0.0)
        old = [path for path, age in kept.items() if age < newest]
        parts = {path: _imported(path, package) & sources.keys() for path in sources} if old else {}
        for path in old:
            source = path.parent.parent / f"{path.name.split('.')[0]}.py"
            edited = any(sources[part] > kept[path] for part in _reached(source, parts))
            if edited or source not in parts or _names_what_is_gone(path, package):
                path.unlink(missing_ok=True)
                removed.append(path)
            else:
                os.utime(path)  # so that the next start has nothing to compare
    return removed


def _imported(path: Path, package: Path) -> set[Path]:
    """Files of the package that a file imports from."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update(_files(node.module, [alias.name for alias in node.names], package))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found.update(_files(alias.name, (), package))
    return found


def _files(module: str, names: Iterable[str], package: Path) -> Iterator[Path]:
    first, *rest = module.split(".")
    if first == package.name:
        place = package.joinpath(*rest)
        yield place.with_suffix(".py")
        yield from (place / f"{name}.py" for name in names)


def _names_what_is_gone(path: Path, package: Path) -> bool:
    """Whether an index of Numba (two pickles: a version; stamp and signatures) names a class that is gone."""
    try:
        with open(path, "rb") as file:
            words = [arg for _ in range(2) for _, arg, _ in pickletools.genops(file) if isinstance(arg, str)]
    except ValueError:  # cut short: Numba could not read it either
        return True
    for module, name in pairwise(words):
        first, *rest = module.split(".")
        if first != package.name or not rest:
            continue
        source = package.joinpath(*rest).with_suffix(".py")
        if not source.exists():
            return True
        if name.isidentifier() and name not in source.read_text(encoding="utf-8"):
            return True
    return False


def _reached(start: Path, parts: dict[Path, set[Path]]) -> set[Path]:
    """``start`` and what it imports, straight or by way of others."""
    reached, ahead = set(), [start]
    while ahead:
        path = ahead.pop()
        if path in parts and path not in reached:
            reached.add(path)
            ahead += parts[path]
    return reached
