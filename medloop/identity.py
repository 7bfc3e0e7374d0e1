"""Identities of people: the user of this computer, the caller of an account, and the starter of an execution.

On AWS one person has several principals: they start a run under an engineer's role and approve under an approver's.
What stays the same is the session's name (IAM Identity Center and sign-in policies put the user's name there), the
source identity where the organisation sets one, and Studio's user profile. So two principals count as one person where
any of these names agrees. A session name that many share (Studio's own is `SageMaker`) tells no person from another,
and counts as the same one: the check fails closed.

A schedule's or an arrival's execution is started by a state machine under the guard's role, in a session named after
the state machine's own execution. That is no person's name, so it equals no approver's.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from medloop.documents.names import normalise


@dataclass(frozen=True)
class Person:
    """A person, known by one or more names.

    Args:
        shown: How the record names them.
        names: Every name that they go by, in small letters; empty where none is known.
    """

    shown: str
    names: frozenset[str]

    @classmethod
    def from_names(cls, shown: str, names: Iterable[Any]) -> Person:
        """A person with these names; absent ones are left out."""
        return cls(shown, frozenset(normalise(str(name).casefold()) for name in names if name))

    def is_same(self, other: Person) -> bool:
        """True if both are one person: a name is the same, or one is `name` and the other `name@domain`."""
        return any(_agree(ours, theirs) for ours in self.names for theirs in other.names)


def _agree(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    return ("@" in ours) != ("@" in theirs) and ours.partition("@")[0] == theirs.partition("@")[0]


def user_here() -> str:
    """`user@host` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in its passwd
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def caller(identity: Mapping[str, Any]) -> Person:
    """The caller, from the response of STS's GetCallerIdentity."""
    arn = str(identity["Arn"])
    return Person.from_names(arn, [*_names_of(arn), identity.get("UserId")])


def starter(created_by: Mapping[str, Any] | None) -> Person | None:
    """The person in a record's CreatedBy (SageMaker's UserContext); None if it names no person."""
    context = created_by or {}
    identity = context.get("IamIdentity") or {}
    arn, profile = str(identity.get("Arn") or ""), context.get("UserProfileName")
    names = [*_names_of(arn), identity.get("PrincipalId"), identity.get("SourceIdentity"), profile]
    names.append(str(context.get("UserProfileArn") or "").rpartition("/")[2])
    shown = arn or context.get("UserProfileArn") or profile
    return Person.from_names(str(shown), names) if shown else None


def _names_of(arn: str) -> list[str]:
    """The ARN itself, and its last part: a session's name, a user's, or `root`."""
    resource = arn.rpartition(":")[2]
    return [arn, resource.rpartition("/")[2]] if arn else []
