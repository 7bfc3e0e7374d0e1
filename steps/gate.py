"""Gate: score, champion and floors decide whether the model is registered; otherwise the execution fails.

The score reaches MinScore, the model is not worse than the champion, and no class is below its floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from medloop.documents.file_names import REPORT_FILE
from steps.common import Context, Settings, output_uri
from steps.evaluate import OUTPUT, evaluation_file

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.condition_step import ConditionStep
    from sagemaker.mlops.workflow.fail_step import FailStep
    from sagemaker.mlops.workflow.steps import ProcessingStep, Step

SCORE = "score.value"
MARGIN_LEFT = "gate.margin_left"
FLOOR_LEFT = "gate.floor_left"
VERDICT = "gate.verdict"
"""One line of evaluation.json on the comparison, 500 characters at most."""


class GateSettings(Settings):
    """Requirements for registration."""

    min_score: float = Field(ge=0)
    """Minimum of the main score; above 1 no model passes."""


def gate_step(context: Context, evaluate: ProcessingStep, passed: Sequence[Step]) -> ConditionStep:
    """Make the SDK's step: `passed` run if all conditions are met, else Fail."""
    from sagemaker.core.workflow.conditions import ConditionGreaterThanOrEqualTo
    from sagemaker.mlops.workflow.condition_step import ConditionStep

    return ConditionStep(
        name="Gate",
        display_name="Gate",
        description="Is the score at least MinScore, the model no worse than the champion by more than the margin, "
        "and no class below its floor?",
        conditions=[
            ConditionGreaterThanOrEqualTo(left=_evaluated(evaluate, SCORE), right=context.parameters["MinScore"]),
            ConditionGreaterThanOrEqualTo(left=_evaluated(evaluate, MARGIN_LEFT), right=0.0),
            ConditionGreaterThanOrEqualTo(left=_evaluated(evaluate, FLOOR_LEFT), right=0.0),
        ],
        if_steps=list(passed),
        else_steps=[_fail_step(context, evaluate)],
    )


def _fail_step(context: Context, evaluate: ProcessingStep) -> FailStep:
    """Report the score, the bounds, the comparison with the champion, and the URI of the report."""
    from sagemaker.core.workflow.functions import Join
    from sagemaker.mlops.workflow.fail_step import FailStep

    parts: list[Any] = [
        "The gate refused the model. Score ",
        _evaluated(evaluate, SCORE),
        " (must be at least MinScore = ",
        context.parameters["MinScore"],
        "); margin left against the champion ",
        _evaluated(evaluate, MARGIN_LEFT),
        " (must be at least 0); least above a class's floor ",
        _evaluated(evaluate, FLOOR_LEFT),
        " (must be at least 0). ",
        _evaluated(evaluate, VERDICT),
        " Nothing was registered. Report: ",
        output_uri(evaluate, OUTPUT),
        f"/{REPORT_FILE}",
    ]
    return FailStep(
        name="Fail",
        display_name="Refused",
        description="The execution ends as failed, with the score and the bounds as its reason.",
        error_message=Join(on="", values=parts),
    )


def _evaluated(evaluate: ProcessingStep, path: str) -> Any:
    from sagemaker.core.workflow.functions import JsonGet

    return JsonGet(step_name=evaluate.name, property_file=evaluation_file(), json_path=path)
