"""Evaluate: the scores of the model, and of its champion beside it, as evaluation.json, cases.csv and report.html."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from steps.common import (
    Context,
    ProcessingResources,
    job_retries,
    make_processor,
    output_uri,
    processing_input,
    processing_output,
)
from steps.split import split_data

if TYPE_CHECKING:
    from sagemaker.core.workflow.properties import PropertyFile
    from sagemaker.mlops.workflow.lambda_step import LambdaStep
    from sagemaker.mlops.workflow.steps import ProcessingStep

OUTPUT = "evaluation"


class EvaluateSettings(ProcessingResources):
    """The evaluation job."""

    margin: float = Field(default=0.02, ge=0, le=1)
    """How much worse than the champion a model may be; set before anyone sees the scores."""
    note: str = Field(default="", max_length=200)
    """A caveat that has to stand wherever the score is shown, such as where the data comes from."""
    max_runtime_minutes: int = Field(default=240, ge=1, le=7200)


def evaluation_file() -> PropertyFile:
    """evaluation.json, where the gate and the failure message look."""
    from sagemaker.core.workflow.properties import PropertyFile

    return PropertyFile(name="evaluation", output_name=OUTPUT, path="evaluation.json")


def registration_file() -> PropertyFile:
    """registration.json, what the register step writes into the version."""
    from sagemaker.core.workflow.properties import PropertyFile

    return PropertyFile(name="registration", output_name=OUTPUT, path="registration.json")


def evaluate_step(
    context: Context, settings: EvaluateSettings, split: ProcessingStep, model: Any, champion: LambdaStep
) -> ProcessingStep:
    """The SDK's step; its output `evaluation` holds evaluation.json, the property file.

    Args:
        context: The build.
        settings: The evaluation job.
        split: Where the test set comes from.
        model: The candidate's model.tar.gz.
        champion: Names the versions that it is compared with.
    """
    from sagemaker.mlops.workflow.steps import ProcessingStep

    inputs = {
        "model": model,
        "split": output_uri(split, "split"),
        "champion": _output(champion, "champion_model"),
        "first": _output(champion, "first_model"),
    }
    return ProcessingStep(
        name="Evaluate",
        display_name="Evaluate",
        description="Score the model, and the champion beside it, on the test patients.",
        step_args=make_processor(context, "evaluate", settings).run(
            inputs=[
                *(processing_input(name, uri) for name, uri in inputs.items()),
                processing_input("test", *split_data(context, split, "test")),
            ],
            outputs=[processing_output(OUTPUT, context.destination("Evaluate", OUTPUT))],
            arguments=_arguments(context, settings, champion),
        ),
        property_files=[evaluation_file(), registration_file()],
        cache_config=context.cache(),
        retry_policies=job_retries(),
    )


def _arguments(context: Context, settings: EvaluateSettings, champion: LambdaStep) -> list[Any]:
    named: dict[str, Any] = {
        "task": context.task,
        "margin": str(settings.margin),
        "deploy-mode": _deploy_mode(context),
        "champion-arn": _output(champion, "champion_arn"),
        "first-arn": _output(champion, "first_arn"),
        "test-uses": _output(champion, "test_uses"),
    }
    if settings.note:
        named["note"] = settings.note
    return [part for name, value in named.items() for part in (f"--{name}", value)]


def _output(champion: LambdaStep, name: str) -> Any:
    return champion.properties.Outputs[name]


def _deploy_mode(context: Context) -> str:
    """Who sees a model before it is deployed: with too few patients a person may decide, a pipeline may not."""
    deploy = getattr(context.settings, "deploy", None)
    return str(getattr(deploy, "mode", "approval"))
