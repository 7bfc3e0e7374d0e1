"""The exceptions that users see.

MedloopError              anything that medloop says on purpose: one line, with the mend
    UserError             the user's input is wrong: exit code 2, from the command line and from inside a job
        DataError         an image, a table or a folder of the data set is wrong
        SettingError      a setting, a parameter or a hyperparameter is wrong
        TargetError       a place to write to, or an account to talk to, can't be used
    Terminated            SIGTERM came: exit code 143

Everything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations


class MedloopError(Exception):
    """Base of all errors that medloop raises on purpose.

    Args:
        message: One line: what is wrong, where (file or field), and how to mend it.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Keep the message as one line, whatever was interpolated into it."""
        super().__init__(" ".join(message.split()))


class UserError(MedloopError):
    """Input that the user can mend."""

    exit_code = 2


class DataError(UserError):
    """A file or folder of the data set that can't be used."""


class SettingError(UserError):
    """A setting, pipeline parameter or hyperparameter that can't be used."""


class TargetError(UserError):
    """A place to write to, or a service to talk to, that can't be used."""


class Terminated(MedloopError):  # noqa: N818 (an end, not an error)
    """The process was asked to end by SIGTERM, and did so in good order."""

    exit_code = 143
