"""Input files in YAML, as ``dp train`` takes them: the tree of the same file in JSON, or an error's line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kalmandp.errors import InputError, MissingPackage

SUFFIXES = (".yaml", ".yml")


def parse_yaml(text: str, name: str) -> Any:
    """The content of a YAML text: mappings, lists, texts, numbers, booleans and null, nothing else.

    Parameters
    ----------
    text : the file's content
    name : begins each error

    Raises
    ------
    InputError
        For text that is not YAML (with line and column), an alias, a tag, or a key that stands twice.
    MissingPackage
        Without PyYAML.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingPackage("pyyaml", "yaml", "an input file in YAML") from error
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            # an alias can make a small text a tree without end
            if isinstance(event, yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="aliases are not supported", problem_mark=event.start_mark)
        return yaml.load(text, Loader=_loader(yaml))
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{name}: {_place(error)}{error.problem or 'is not YAML'}; expected YAML") from None
    except yaml.YAMLError as error:
        raise InputError(f"{name}: {' '.join(str(error).split())[:200]}; expected YAML") from None
    except RecursionError:
        raise InputError(f"{name}: is nested too deep; expected YAML input") from None


def is_yaml(path: Path) -> bool:
    """Whether a file's suffix says YAML."""
    return path.suffix.lower() in SUFFIXES


def _place(error) -> str:
    mark = error.problem_mark
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "


def _loader(yaml):
    """PyYAML's safe loader without dates (a text stays one), and with every key once."""

    class InputLoader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own class attribute)
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node, deep=False):
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, str) or (key in seen and not key.startswith("_")):
                    problem = f"the key {key!r} is no text, or stands twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
                seen.add(key)
            return super().construct_mapping(node, deep)

    return InputLoader
