"""How each step type runs. `STEP_TYPES` is the whole list: another type is a module here and its line there."""

from __future__ import annotations

import traceback
from collections.abc import Callable

from medloop.local.engine.expressions import ExpressionError
from medloop.local.engine.step_runs import control, hosting, jobs, lambda_, tuning
from medloop.local.engine.step_runs.base import StepResult, StepRun
from medloop.local.jobs.jobs import MAX_REASON

STEP_TYPES: dict[str, Callable[[StepRun], StepResult]] = {
    "Processing": jobs.processing,
    "Training": jobs.training,
    "Transform": jobs.transform,
    "Tuning": tuning.tuning,
    "Lambda": lambda_.function,
    "Condition": control.condition,
    "RegisterModel": control.register,
    "Model": hosting.model,
    "EndpointConfig": hosting.endpoint_config,
    "Endpoint": hosting.endpoint,
    "Fail": control.fail,
}


def run_step(run: StepRun) -> StepResult:
    """Run a step to its end; whatever goes wrong fails it, with the reason."""
    try:
        return STEP_TYPES[run.step.type](run)
    except ExpressionError as error:
        return StepResult("Failed", reason=f"ClientError: {error}")
    except Exception as error:
        traceback.print_exc()
        return StepResult("Failed", reason=f"InternalServerError: {type(error).__name__}: {error}"[:MAX_REASON])
