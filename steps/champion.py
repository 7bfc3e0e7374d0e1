"""Champion: find the versions that the candidate is compared with, and record one more use of its test set."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from medloop.cloud.layout import NO_MODEL, TEST_USES
from medloop.documents.champion import RESPONSE
from steps.common import Context, Settings, output_uri

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.lambda_step import LambdaStep
    from sagemaker.mlops.workflow.steps import ProcessingStep

CONTAINER = "champion"
FunctionArn = Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_:-]+$")]


class ChampionSettings(Settings):
    """The function that finds the champion."""

    lambda_arn: FunctionArn | None = None
    """On AWS, another function than `medloop-champion` of the account; local runs have their own."""


def champion_step(context: Context, settings: ChampionSettings, split: ProcessingStep, model: Any) -> LambdaStep:
    """Make the SDK's step; its outputs are RESPONSE, all text (see medloop.champion).

    It is never cached: equal inputs meet another champion once a version has been approved.

    Args:
        context: The build.
        settings: The function.
        split: Where the test set comes from.
        model: The candidate's model.tar.gz.
    """
    from sagemaker.core.lambda_helper import Lambda
    from sagemaker.mlops.workflow.lambda_step import LambdaOutput, LambdaOutputTypeEnum, LambdaStep

    # The SDK warns at every build that it won't upload the function's code, which upsert does, or infra.
    warnings.filterwarnings("ignore", message="Lambda function won't be updated")
    bucket = f"s3://{context.target.bucket}"
    return LambdaStep(
        name="Champion",
        display_name="Champion",
        description="Find the newest Approved version, which the candidate is compared with.",
        lambda_func=Lambda(function_arn=_function_arn(context, settings), session=context.session),
        inputs={
            "group": context.group,
            "model": model,
            "split": output_uri(split, "split"),
            "none": f"{bucket}/{NO_MODEL}",
            "uses": f"{bucket}/{TEST_USES}/{context.task}",
        },
        outputs=[LambdaOutput(output_name=name, output_type=LambdaOutputTypeEnum.String) for name in RESPONSE],
    )


def _function_arn(context: Context, settings: ChampionSettings) -> str:
    if context.target.name == "aws" and settings.lambda_arn is not None:
        return settings.lambda_arn
    return context.target.function_arn(CONTAINER)
