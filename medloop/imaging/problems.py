"""Problems of a data set. Torch-free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a data set from being used; or a warning about a data set that can be used.

    Attributes:
        path: File or folder relative to the data set's root, in POSIX form; "" for the complete data set.
        message: The problem and its fix. `{related}` is a placeholder for the other file; no other name appears in it.
        case: The case (or unexpected file) to exclude to solve it; None if excluding doesn't help.
        related: The other file in the message, as `path`.
        for_owner: The message with patients' identifiers, which only the data's owner may see; "" if there are none.
    """

    path: str
    message: str
    case: str | None = None
    related: str = ""
    for_owner: str = ""

    @property
    def line(self) -> str:
        """The problem in one line, names included: for the data's owner."""
        return f"{self.path or 'data set'}: {self.owner_reason}"

    @property
    def owner_reason(self) -> str:
        """The message, names included."""
        return self.for_owner or self.reason(str)

    def hide(self, rename: Callable[[str], str]) -> str:
        """The problem in one line, with every path renamed: for logs and failure texts."""
        return f"{rename(self.path) if self.path else 'data set'}: {self.reason(rename)}"

    def reason(self, rename: Callable[[str], str]) -> str:
        """The message, with the related path renamed."""
        return self.message.replace("{related}", rename(self.related) if self.related else "")
