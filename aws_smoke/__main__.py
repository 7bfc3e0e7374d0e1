"""Try the deployed account with the requests that medloop sends, for about a dollar: `make aws-smoke`.

    make aws-smoke ARGS=--dry-run                 what it would create and delete; needs no credentials
    make aws-smoke                                asks before it begins, and again before the GPU
    make aws-smoke ARGS="--yes --json smoke.json" for CI
    make aws-smoke ARGS="--only roles,pipelines"  some checks
    make aws-smoke ARGS="--clean 261130-205103-a1"  delete what a killed run left

Exit codes: 0 nothing failed; 1 a check failed or something is left; 2 refused; 130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError
from rich.console import Console

from aws_smoke.account import open_account
from aws_smoke.check import Check, Result
from aws_smoke.checks import CHECKS
from aws_smoke.lab import RUN, Lab, new_run
from aws_smoke.report import Report, print_plan, print_report, print_result
from aws_smoke.runner import clean_all, run_checks, termination
from medloop.commands.output import make_console, print_error, print_line
from medloop.errors import MedloopError, UserError


def _confirm(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError("no terminal to confirm at; add --yes, or see --dry-run")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


@dataclass(frozen=True)
class Services:
    """The outside of the command; tests pass their own.

    Args:
        session: Opens the user's session.
        confirm: Asks a question.
        sleep: Waits.
        now: The time, UTC.
        environment: Environment variables.
        out: Results.
        err: Progress and errors.
    """

    session: Callable[[], boto3.Session] = boto3.Session
    confirm: Callable[[str], bool] = _confirm
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    out: Console = field(default_factory=make_console)
    err: Console = field(default_factory=lambda: make_console(stderr=True))


def main(arguments: Sequence[str] | None = None, services: Services | None = None) -> int:
    """Run the command; returns the exit code."""
    services = services or Services()
    options = _parse(arguments)
    try:
        checks = _choose(options.only, options.skip)
        if options.dry_run:
            print_plan(services.out, checks)
            return 0
        with termination():
            return _clean(services, options) if options.clean else _run(services, options, checks)
    except KeyboardInterrupt:
        print_error(services.err, "interrupted")
        return 130
    except (MedloopError, OSError) as error:
        print_error(services.err, str(error))
        return UserError.exit_code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aws-smoke", description=(__doc__ or "").partition("\n")[0])
    names = ", ".join(check.name for check in CHECKS)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be created and deleted; no credentials"
    )
    parser.add_argument("--yes", action="store_true", help="confirm everything, the GPU too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"these checks, separated by commas: {names}")
    parser.add_argument("--skip", default="", metavar="NAMES", help="all checks except these")
    parser.add_argument("--clean", metavar="RUN", help="delete what the run of this id left, and do nothing else")
    parser.add_argument("--account", metavar="NUMBER", help="refuse any other account")
    return parser.parse_args(arguments)


def _choose(only: str, skip: str) -> list[Check]:
    """Return the requested checks.

    Raises:
        UserError: A name is unknown.
    """
    known = [check.name for check in CHECKS]
    chosen, left_out = (set(filter(None, names.split(","))) for names in (only, skip))
    if unknown := sorted((chosen | left_out) - set(known)):
        raise UserError(f"check {unknown[0]!r} is unknown; one of {', '.join(known)}")
    return [check for check in CHECKS if check.name in (chosen or known) and check.name not in left_out]


def _open(services: Services, options: argparse.Namespace, run: str) -> Lab:
    try:
        target, stack = open_account(services.session(), services.environment, options.account)
    except BotoCoreError as error:
        raise UserError(f"{error}; correct AWS_PROFILE or your AWS configuration") from None
    return Lab(run, target, stack, services.sleep, services.now)


def _run(services: Services, options: argparse.Namespace, checks: Sequence[Check]) -> int:
    run = new_run(services.now())
    try:
        lab = _open(services, options, run)
    except MedloopError as error:
        _write(options, _nothing_tried(run, checks, str(error)))
        raise UserError(f"{error}; not tried: {', '.join(check.name for check in checks)}") from None
    where = f"account {lab.target.account}, {lab.target.region}"
    if not options.yes:
        print_plan(services.out, checks)
        if not services.confirm(f"{where}: create and delete this?"):
            print_line(services.err, "nothing was created")
            return UserError.exit_code
    print_line(services.err, f"run {run} in {where}")

    def consent(check: Check) -> bool:
        price = f"about {check.usd:.2f} USD, at most {check.most_usd:.2f}"
        return options.yes or services.confirm(f"{check.name}: {check.proves}; {price}. Run it?")

    report = run_checks(lab, checks, consent, lambda result: print_result(services.err, result))
    return _finish(services, options, report)


def _clean(services: Services, options: argparse.Namespace) -> int:
    if not RUN.fullmatch(options.clean):
        raise UserError(f"--clean {options.clean}: is no run's id, such as 261130-205103-a1; the run printed it")
    lab = _open(services, options, options.clean)
    report = Report(run=lab.run, account=lab.target.account, region=lab.target.region, results=[])
    clean_all(lab, report.results.append)
    return _finish(services, options, report)


def _finish(services: Services, options: argparse.Namespace, report: Report) -> int:
    print_report(services.out, report)
    _write(options, report)
    if any(result.check == "cleanup" for result in report.results):
        print_line(services.err, f"something is left: make aws-smoke ARGS='--clean {report.run}'", "red")
    return int(report.interrupted or report.has_failures)


def _nothing_tried(run: str, checks: Sequence[Check], reason: str) -> Report:
    results = [Result(check=check.name, case="all", status="not tried", detail=reason) for check in checks]
    return Report(run=run, account="", region="", results=results)


def _write(options: argparse.Namespace, report: Report) -> None:
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    sys.exit(main())
