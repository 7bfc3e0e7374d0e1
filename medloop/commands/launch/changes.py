"""The changes of an upsert, shown before it happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from medloop.commands.options import Services
from medloop.commands.output import print_line, print_table
from medloop.definition.diff import Change
from medloop.definition.origin import changes_to_review
from medloop.errors import UserError

if TYPE_CHECKING:
    from medloop.cloud.target import Target
    from medloop.settings import Resolved


def pending_changes(services: Services, target: Target, resolved: Resolved) -> list[Change] | None:
    """List the changes that an upsert would make; None if the target has no such pipeline yet.

    Raises:
        SettingError: The settings result in an invalid definition, or the stored definition is not JSON.
        TargetError: The target can't be reached.
    """
    from medloop.cloud.upsert import stored_definition

    stored = stored_definition(target, resolved.pipeline)
    return None if stored is None else changes_to_review(stored, services.build(target, resolved))


def print_changes(console: Console, name: str, target: Target, changes: list[Change] | None) -> None:
    """Print the changes, if any."""
    if changes is None:
        print_line(console, f"pipeline {name}: new on {target.name}")
    elif not changes:
        print_line(console, f"pipeline {name}: nothing changes on {target.name}")
    else:
        print_line(console, f"pipeline {name}: {len(changes)} changes on {target.name}")
        rows = [(change.kind, change.path, change.before or None, change.after or None) for change in changes]
        print_table(console, ("", "where", "now", "then"), rows)


def confirm_changes(services: Services, target: Target, resolved: Resolved, *, yes: bool) -> None:
    """Show the changes of an upsert on AWS and ask for confirmation; a local pipeline is updated without.

    Raises:
        UserError: There is no terminal for the confirmation, and `yes` is False.
        typer.Exit: With 1, if the user doesn't confirm.
    """
    if target.name != "aws":
        return
    changes = pending_changes(services, target, resolved)
    print_changes(services.err, resolved.pipeline, target, changes)
    if yes or changes == []:
        return
    if not sys.stdin.isatty():
        raise UserError(f"pipeline {resolved.pipeline} would change on aws; look at the changes above, then add --yes")
    if not typer.confirm("Put this pipeline on aws?", err=True):
        raise typer.Exit(1)
