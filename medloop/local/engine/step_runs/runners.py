"""Run a step by the runner that the row of its type names."""

from __future__ import annotations

import traceback
from importlib import import_module

from medloop.definition.step_types import STEP_TYPES
from medloop.local.engine.step_runs.base import StepResult, StepRun, StepRunner
from medloop.local.errors import RequestError, ServiceError, failure_reason, refusal_reason

RUN_LOCALLY = frozenset(name for name, row in STEP_TYPES.items() if row.runner)
"""The step types that a local execution runs."""


def runner_of(step_type: str) -> StepRunner:
    """The runner of a step type that is run locally.

    Raises:
        TypeError: The row names no subclass of StepRunner.
    """
    path = STEP_TYPES[step_type].runner
    module, _, name = path.partition(":")
    runner = getattr(import_module(f"{__package__}.{module}"), name)
    if not (isinstance(runner, type) and issubclass(runner, StepRunner)):
        raise TypeError(f"step type {step_type}: its runner {path} is no subclass of StepRunner")
    return runner()


def run_step(run: StepRun) -> StepResult:
    """Run a step to its end; any error fails it, with the reason."""
    try:
        return runner_of(run.step.type).run(run)
    except ServiceError as error:
        return StepResult("Failed", reason=refusal_reason(STEP_TYPES[run.step.type].operation, error))
    except Exception as error:
        if not isinstance(error, RequestError):
            traceback.print_exc()
        return StepResult("Failed", reason=failure_reason(error))
