"""Check the pages of a folder: every link within it has a target, and nothing is loaded from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Tags whose addresses are loaded when the page is opened.
LOADED = {"script", "link", "img", "iframe", "source", "video"}
#: Relations of <link> that load nothing.
NOT_LOADED = {"canonical", "next", "prev", "index", "search", "genindex", "up", "copyright", "author"}


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.targets: set[str] = set()
        self.links: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.targets |= {values[name] for name in ("id", "name") if values.get(name)}
        for name in ("href", "src", "data-src"):
            if values.get(name):
                self.links.append((tag, values.get("rel") or "", values[name]))


def broken(folder: Path) -> list[str]:
    """What is wrong with the links of all pages, one line each."""
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    told = []
    for path, page in pages.items():
        for tag, rel, link in page.links:
            if words := _wrong(path, tag, rel, link, pages):
                told.append(f"{path.relative_to(folder.resolve())}: {link}: {words}")
    return told


def _wrong(path: Path, tag: str, rel: str, link: str, pages: dict) -> str:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https") or parts.netloc:
        loads = tag in LOADED and not (tag == "link" and set(rel.split()) & NOT_LOADED)
        return "is loaded from another place" if loads else ""
    if parts.scheme:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].targets:
        return "no such place in the page"
    return ""
