"""YAML that a person wrote: plain values only, refused in one line when it is anything else."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from medloop.errors import SettingError

MAX_CHARACTERS = 100_000
"""Far above any settings file; keeps a wrong file from being parsed for minutes."""


class _PlainLoader(yaml.SafeLoader):
    """Safe tags only, no aliases (they grow exponentially when expanded), no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(text: str, label: str) -> Any:
    """The one value in a YAML text.

    Args:
        text: The YAML.
        label: What it is called in an error: the file or the option.

    Raises:
        SettingError: It is no YAML, or holds aliases, tags of Python objects, a key twice, or far too much.
    """
    if len(text) > MAX_CHARACTERS:
        raise SettingError(f"{label}: {len(text)} characters are too many; keep it below {MAX_CHARACTERS}")
    loader = None
    try:
        loader = _PlainLoader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SettingError(f"{label}: {where}{error.problem}; mend the YAML") from None
    except RecursionError:
        raise SettingError(f"{label}: is nested too deeply; flatten the YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SettingError(f"{label}: {error}; mend the YAML") from None
    finally:
        if loader is not None:
            loader.dispose()
