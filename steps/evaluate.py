"""Evaluate: the model's scores on the test set, as evaluation.json, cases.csv and report.html."""

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


def evaluate_step(context: Context, settings: EvaluateSettings, split: ProcessingStep, model: Any) -> ProcessingStep:
    """The SDK's step; its output `evaluation` holds evaluation.json, the property file.

    Args:
        context: The build.
        settings: The evaluation job.
        split: Where the test set comes from.
        model: The candidate's model.tar.gz.
    """
    from sagemaker.mlops.workflow.steps import ProcessingStep

    inputs = {
        "model": model,
        "split": output_uri(split, "split"),
    }
    return ProcessingStep(
        name="Evaluate",
        display_name="Evaluate",
        description="Score the model on the test patients.",
        step_args=make_processor(context, "evaluate", settings).run(
            inputs=[
                *(processing_input(name, uri) for name, uri in inputs.items()),
                processing_input("test", *split_data(context, split, "test")),
            ],
            outputs=[processing_output(OUTPUT, context.destination("Evaluate", OUTPUT))],
            arguments=_arguments(context, settings),
        ),
        property_files=[evaluation_file()],
        cache_config=context.cache(),
        retry_policies=job_retries(),
    )


def _arguments(context: Context, settings: EvaluateSettings) -> list[str]:
    arguments = ["--task", context.task, "--margin", str(settings.margin)]
    return [*arguments, "--note", settings.note] if settings.note else arguments
