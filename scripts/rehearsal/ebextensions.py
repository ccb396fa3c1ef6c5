"""Reads .ebextensions as Beanstalk does: every *.config file in order of its name, the later one winning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

COMMANDS = {"packages", "groups", "users", "sources", "files", "commands", "container_commands", "services"}
TEMPLATE = {"Resources", "Outputs", "Parameters", "Mappings", "Conditions"}
KEYS = {"option_settings"} | COMMANDS | TEMPLATE


class BadExtension(Exception):
    """A file that Beanstalk would ignore whole, with no more than a warning event."""


@dataclass
class Extensions:
    """All files together. `option_settings`: namespace -> name -> value as text."""

    option_settings: dict[str, dict[str, str]] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def section(self, key: str) -> dict[str, Any]:
        """`files`, `commands` ...: entries by name, in the order in which Beanstalk takes them."""
        return dict(sorted(self.sections.get(key, {}).items()))


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice in one mapping (PyYAML would keep the last one silently)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise BadExtension(f"{node.start_mark}: given twice: {', '.join(map(str, twice))}")
        return super().construct_mapping(node, deep)


def text_of(value: object) -> str:
    """An option's value as Beanstalk stores it: everything is text, booleans in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def extensions_of(folder: Path) -> Extensions:
    """The extensions in `folder`. BadExtension for what Beanstalk would ignore."""
    extensions = Extensions()
    for path in sorted(folder.glob("*.config")):
        document = yaml.load(path.read_text(), _StrictLoader)
        if not isinstance(document, Mapping) or not set(document) <= KEYS:
            raise BadExtension(f"{path.name}: keys must be among {', '.join(sorted(KEYS))}")
        for key, entries in document.items():
            if key == "option_settings":
                for namespace, options in entries.items():
                    values = {name: text_of(value) for name, value in options.items()}
                    extensions.option_settings.setdefault(namespace, {}).update(values)
            else:
                extensions.sections.setdefault(key, {}).update(entries)
    return extensions
