"""Exceptions with a message for users.

MedloopError              an expected error: one line, with the fix
    UserError             the user's input is wrong: exit code 2, from the command line and from inside a job
        DataError         an image, a table or a folder of the data set is wrong
        SettingError      a setting, a parameter or a hyperparameter is wrong
        TargetError       an output location or an account can't be used
    Terminated            the process received SIGTERM: exit code 143

Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations


class MedloopError(Exception):
    """Base class of all expected errors.

    Args:
        message: One line: what is wrong, where (file or field), and the fix.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Join the message into one line."""
        super().__init__(" ".join(message.split()))


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
