"""Exceptions with a message for users, and the form in which text from outside may be in one.

MedloopError              an expected error: one line, with the fix
    UserError             the user's input is wrong: exit code 2, from the command line and from inside a job
        DataError         an image, a table or a folder of the data set is wrong
        SettingError      a setting, a parameter or a hyperparameter is wrong
        TargetError       an output location or an account can't be used
    Terminated            the process received SIGTERM: exit code 143

Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import unicodedata

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls, invisible formats (such as the direction of text), surrogates, line separators."""
_JOINERS = "\u200c\u200d"
"""Signs of a format that words of some languages need."""


def printable(text: str, allowed: str = "\t") -> str:
    r"""Escape what can move a terminal's cursor, hide text or begin another line, as `\x1b`, `\n` and `\u202e`.

    File names, class names, logs, descriptions and responses of models come from outside. All text of the command line
    passes this function on its way to the terminal (`medloop.commands.output`), and so does every message.

    Args:
        text: Any text; that of a file name which isn't UTF-8 has surrogates.
        allowed: Characters that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if sign in allowed or _is_harmless(sign) else ascii(sign)[1:-1] for sign in text)


def _is_harmless(sign: str) -> bool:
    return unicodedata.category(sign) not in _ESCAPED or sign in _JOINERS


class MedloopError(Exception):
    """Base class of all expected errors.

    Args:
        message: One line: what is wrong, where (file or field), and the fix.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Join the message into one line that can be printed."""
        super().__init__(printable(" ".join(message.split())))


class UserError(MedloopError):
    """Input that the user can correct."""

    exit_code = 2


class DataError(UserError):
    """A file or folder of the data set that can't be used."""


class SettingError(UserError):
    """A setting, pipeline parameter or hyperparameter that can't be used."""


class TargetError(UserError):
    """An output location or a service that can't be used."""


class Terminated(MedloopError):  # noqa: N818 (not an error)
    """The process received SIGTERM and has shut down cleanly."""

    exit_code = 143
