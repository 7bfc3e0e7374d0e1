"""Problems of a data set. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from medloop.errors import printable

_PLACEHOLDER = re.compile(r"\{(related|root|\d+)\}")


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
    """

    path: str
    message: str
    case: str | None = None
    related: str = ""
    for_owner: str = ""
    names: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The problem in one line, names included: for the data's owner."""
        return printable(f"{self.path or 'data set'}: {self.owner_reason()}")

    def owner_reason(self, root: str = "DIR") -> str:
        """The message in one line, names included, and the data set's folder."""
        return printable(self.for_owner or self.reason(str, root))

    def hide(self, rename: Callable[[str], str]) -> str:
        """The problem in one line, with every path renamed: for logs and failure texts."""
        return printable(f"{rename(self.path) if self.path else 'data set'}: {self.reason(rename)}")

    def reason(self, rename: Callable[[str], str], root: str = "DIR") -> str:
        """The message, with the names in it renamed."""
        values = {"related": self.related, **{str(number): name for number, name in enumerate(self.names)}}
        texts = {key: rename(value) if value else "" for key, value in values.items()} | {"root": root}
        return _PLACEHOLDER.sub(lambda match: texts.get(match[1], match[0]), self.message)
