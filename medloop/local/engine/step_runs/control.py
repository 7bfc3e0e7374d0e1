"""Runners of Condition and Fail steps, which start nothing."""

from __future__ import annotations

from medloop.definition.read import OUTCOMES
from medloop.local.engine.expressions import is_true, resolve
from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner


class Condition(StepRunner):
    """Decides which branch runs."""

    def run(self, run: StepRun) -> StepResult:
        """See StepRunner."""
        conditions = run.step.arguments.get("Conditions") or []
        outcome = OUTCOMES["yes" if all(is_true(condition, run.scope) for condition in conditions) else "no"]
        return StepResult("Succeeded", {"Outcome": outcome}, {"Condition": {"Outcome": outcome}})


class Fail(StepRunner):
    """Ends the execution with a message."""

    def run(self, run: StepRun) -> StepResult:
        """See StepRunner."""
        message = str(resolve(run.step.arguments.get("ErrorMessage", ""), run.scope))
        return StepResult("Failed", {"ErrorMessage": message}, {"Fail": {"ErrorMessage": message}}, message)
