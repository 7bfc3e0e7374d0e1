"""Problems of a data set. Torch-free."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from medloop.errors import printable

_PLACEHOLDER = re.compile(r"\{(related|root|\d+)\}")


_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
MAX_SINGLE = 3
"""Problems of one kind that get a line each."""
MAX_NAMED = 5
"""Files that the line of a kind names."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps a data set from being used; or a warning about a data set that can be used.

    Attributes:
        path: File or folder relative to the data set's root, in POSIX form; "" for the complete data set.
        message: The problem and its fix. `{related}` is a placeholder for the other file, `{0}`, `{1}`, ... are for
            `names`, and `{root}` is for the data set's folder; no other name of a file or patient appears in it.
        case: The case (or unexpected file) to exclude to solve it; None if excluding doesn't help.
        related: The other file in the message, as `path`.
        for_owner: The message with patients' identifiers, which only the data's owner may see; "" if there are none.
        names: Further names and paths in the message.
        alike: Further files with the same problem, as `path`; numbers in their messages may be others.
    """

    path: str
    message: str
    case: str | None = None
    related: str = ""
    for_owner: str = ""
    names: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The problem in one line, names included: for the data's owner."""
        return printable(f"{self._heading(str)}: {self.owner_reason()}")

    def owner_reason(self, root: str = "DIR") -> str:
        """The message in one line, names included, and the data set's folder."""
        return printable(self.for_owner or self.reason(str, root))

    def hide(self, rename: Callable[[str], str]) -> str:
        """The problem in one line, with every path renamed: for logs and failure texts."""
        return printable(f"{self._heading(rename)}: {self.reason(rename)}")

    def _heading(self, rename: Callable[[str], str]) -> str:
        if not self.alike:
            return rename(self.path) if self.path else "data set"
        listed = ", ".join(map(rename, self.alike[: MAX_NAMED - 1])) + (", ..." if len(self.alike) >= MAX_NAMED else "")
        return f"{rename(self.path)} and {len(self.alike)} more like it ({listed})"

    def reason(self, rename: Callable[[str], str], root: str = "DIR") -> str:
        """The message, with the names in it renamed."""
        values = {"related": self.related, **{str(number): name for number, name in enumerate(self.names)}}
        texts = {key: rename(value) if value else "" for key, value in values.items()} | {"root": root}
        return _PLACEHOLDER.sub(lambda match: texts.get(match[1], match[0]), self.message)


def group_by_kind(problems: Iterable[Problem]) -> list[Problem]:
    """Make one problem of many files' problems of one kind, at the first one's place.

    A kind has one message, except for its numbers. Problems that name another file or a patient stay as they are.
    """
    problems, kinds = list(problems), defaultdict[object, list[Problem]](list)
    for problem in problems:
        kinds[_kind(problem)].append(problem)
    grouped: list[Problem] = []
    for problem in problems:
        kind = kinds[_kind(problem)]
        paths = list(dict.fromkeys(each.path for each in kind))
        if len(paths) <= MAX_SINGLE:
            grouped.append(problem)
        elif problem is kind[0]:
            grouped.append(replace(problem, alike=tuple(paths[1:])))
    return grouped


def _kind(problem: Problem) -> object:
    if not problem.path or problem.related or problem.names or problem.for_owner:
        return problem
    return _NUMBER.sub("0", problem.message)
