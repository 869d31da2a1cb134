"""The choices of a form as plain lists and numbers, for JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def plain(value: Any) -> Any:
    """Tuples as lists, however deep."""
    return [plain(x) for x in value] if isinstance(value, tuple) else value


def plain_fields(form: Any) -> dict[str, Any]:
    """The fields of a dataclass by name."""
    return {f.name: plain(getattr(form, f.name)) for f in fields(form)}
