"""The documentation: its sources are whole, docstrings are not taken for markup, broken links are found."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import kalmandp

SITE = Path(__file__).resolve().parents[1] / "examples" / "site"


@pytest.fixture(scope="module")
def site():
    """The modules of examples/site by name."""
    names = ["links", "docstrings", "sources"] + (["mathml"] if find_spec("docutils") else [])
    sys.path.insert(0, str(SITE))
    try:
        yield {name: import_module(name) for name in names}
    finally:
        sys.path.remove(str(SITE))
        for name in names:
            sys.modules.pop(name, None)


def test_sources_are_whole(site, tmp_path):
    """Each link between texts has its file, each lesson its page and picture, each module its page."""
    site["sources"].write_sources(tmp_path)
    for page in tmp_path.rglob("*.md"):
        for path in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / path).is_file(), f"{page.relative_to(tmp_path)}: {path}"
    lessons = sorted(p.stem for p in (tmp_path / "examples" / "gallery").glob("[0-9]*.py"))
    assert len(lessons) >= 9
    for name in lessons:
        text = (tmp_path / "examples" / "gallery" / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith("# ") and f"({name}.png)" in text and "```python" in text
        assert "# %%" not in text
    reference = {p.stem for p in (tmp_path / "reference").glob("*.rst")}
    assert {"public", "kalmandp", "kalmandp.kalman.filter", "kalmandp.report.page"} <= reference
    public = (tmp_path / "reference" / "public.rst").read_text(encoding="utf-8")
    assert all(f"`{name} <kalmandp." in public for name in kalmandp.__all__)


def test_docstrings_stay_what_they_say(site):
    written = [
        "Scale a*b by |x|: `name`s and ``a*b|c`` stay.", "", "The sum::", "", "    a* |x|", "",
        "one : |a|", "    more of it", "last", "", "Parameters", "----------", "w, v : weights |w|",
        "    (N,)",
    ]  # fmt: skip
    assert site["docstrings"].safe(written) == [
        r"Scale a\*b by \|x\|: `name`s and ``a*b|c`` stay.", "", "The sum::", "", "    a* |x|", "",
        "::", "", "    one : |a|", "        more of it", "    last", "",
        "Parameters", "----------", "w, v", r"    weights \|w\|", "    (N,)", "",
    ]  # fmt: skip


def test_what_a_section_sets_out_is_set_out_once(site):
    written = ["Notes", "-----", "::", "", "    a    b", "    aa   b and", "         more"]
    assert site["docstrings"].safe(written).count("::") == 1


def test_broken_links_are_found(site, tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"></p><a href="b.html#there">b</a><a href="#here">a</a>')
    (tmp_path / "b.html").write_text('<p id="there"></p><a href="https://example.org">elsewhere</a>')
    assert site["links"].broken(tmp_path) == []
    planted = {
        '<a href="c.html">': "c.html: no such file",
        '<a href="b.html#nowhere">': "b.html#nowhere: no such place in the page",
        '<script src="https://example.org/x.js"></script>': "is loaded from another place",
        '<img src="x.png">': "x.png: no such file",
    }
    for html, words in planted.items():
        (tmp_path / "c_page.html").write_text(html)
        (told,) = site["links"].broken(tmp_path)
        assert told.startswith("c_page.html: ") and words in told


@pytest.mark.skipif(find_spec("docutils") is None, reason='pip install "kalmandp[docs]" brings docutils')
def test_formulas_are_drawn_by_the_browser(site):
    made = site["mathml"].mathml(r"\tfrac{1}{2} \lVert r_c \rVert", block=False)
    assert made.startswith("<math") and "<mfrac>" in made and "frac{" not in made
