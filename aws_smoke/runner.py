"""Run checks one after the other, and delete what they created: after a failure, Ctrl-C and SIGTERM too."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from aws_smoke.check import Check, Result, failure, try_case
from aws_smoke.lab import Lab
from aws_smoke.report import Report
from aws_smoke.resources import CLEANUP, clean
from medloop.cloud.images import find_digest
from medloop.errors import MedloopError, Terminated

INTERRUPTED = 130
DECLINED = "not confirmed"
Show = Callable[[Result], None]


@contextlib.contextmanager
def termination() -> Iterator[None]:
    """Let SIGTERM end the process as an interruption, so that what was created is deleted before."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(Terminated.exit_code)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_checks(lab: Lab, checks: Sequence[Check], consent: Callable[[Check], bool], show: Show) -> Report:
    """Run the checks.

    Args:
        lab: The account.
        checks: Rows of the table.
        consent: Confirms a check that asks for it.
        show: Gets each result when it is there.

    Returns:
        The results, those of the cleanup last: one for each resource that is left.
    """
    report = Report(run=lab.run, account=lab.target.account, region=lab.target.region, results=[])

    def add(result: Result) -> None:
        report.results.append(result)
        show(result)

    try:
        for check in checks:
            _run_check(lab, check, consent, add)
    except (KeyboardInterrupt, SystemExit) as interruption:
        report.interrupted = interruption.code if isinstance(interruption, SystemExit) else INTERRUPTED
    _add_untried(lab, checks, report, add)
    clean_all(lab, add)
    return report


def clean_all(lab: Lab, add: Show) -> None:
    """Delete all of a run, and report what is left."""
    try:
        for result in clean(lab):
            add(result)
    except (KeyboardInterrupt, SystemExit):
        add(failure(CLEANUP, "interrupted", MedloopError("resources may be left")))


def _run_check(lab: Lab, check: Check, consent: Callable[[Check], bool], add: Show) -> None:
    try:
        reason = _obstacle(lab, check, consent)
    except Exception as error:
        add(failure(check.name, "requirements", error))
        return
    try:
        for case in check.cases(lab):
            if reason:
                add(Result(check=check.name, case=case.name, status="not tried", detail=reason))
            else:
                add(try_case(check.name, case))
    finally:
        # What is left is tried again at the end, and reported there.
        if check.makes and not reason:
            clean(lab, check.makes)


def _obstacle(lab: Lab, check: Check, consent: Callable[[Check], bool]) -> str:
    """Return why a check can't be tried; empty if it can."""
    if missing := [name for name in check.images if find_digest(lab.target, name) is None]:
        return f"no image of containers/{missing[0]} as it is now; make images"
    return DECLINED if check.consent and not consent(check) else ""


def _add_untried(lab: Lab, checks: Sequence[Check], report: Report, add: Show) -> None:
    """Report the cases that an interruption left out."""
    tried = {(result.check, result.case) for result in report.results}
    broken = {result.check for result in report.results if result.case == "requirements"}
    for check in checks if report.interrupted else ():
        for case in check.cases(lab) if check.name not in broken else ():
            if (check.name, case.name) not in tried:
                add(Result(check=check.name, case=case.name, status="not tried", detail="interrupted"))
