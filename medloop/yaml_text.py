"""YAML files of users: plain values only; anything else is an error of one line."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from medloop.errors import SettingError

MAX_CHARACTERS = 100_000
"""Far above any settings file; a wrong file would be parsed for minutes."""


class _PlainLoader(yaml.SafeLoader):
    """Safe tags only, no aliases (they grow exponentially when expanded), no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            position = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", position)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(text: str, label: str) -> Any:
    """Return the value of a YAML text.

    Args:
        text: The YAML.
        label: The file or the option, for the error message.

    Raises:
        SettingError: The text is not YAML, is too long, or has aliases, tags of Python objects, or a key twice.
    """
    if len(text) > MAX_CHARACTERS:
        raise SettingError(f"{label}: {len(text)} characters are too many; keep it below {MAX_CHARACTERS}")
    loader = None
    try:
        loader = _PlainLoader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SettingError(f"{label}: {line}{error.problem}; correct the YAML") from None
    except RecursionError:
        raise SettingError(f"{label}: is nested too deeply; flatten the YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SettingError(f"{label}: {error}; correct the YAML") from None
    finally:
        if loader is not None:
            loader.dispose()
