"""Evaluate: the scores of the model and of its champion, as evaluation.json, cases.csv and report.html."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from medloop.documents.champion import DEFAULT_MARGIN
from medloop.documents.file_names import EVALUATION_FILE, REGISTRATION_FILE
from medloop.documents.quantities import LengthUnit
from steps.common import (
    Context,
    ProcessingResources,
    job_retries,
    make_processor,
    output_uri,
    processing_input,
    processing_output,
)
from steps.split import SplitData

if TYPE_CHECKING:
    from sagemaker.core.workflow.properties import PropertyFile
    from sagemaker.mlops.workflow.lambda_step import LambdaStep
    from sagemaker.mlops.workflow.steps import ProcessingStep

OUTPUT = "evaluation"
MAX_ARGUMENT = 256
"""Characters of a processing job's argument."""
MAX_FLOORS = 40
"""A processing job has 100 arguments: two a floor, in addition to the others."""
FloorValue = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class EvaluateSettings(ProcessingResources):
    """The evaluation job."""

    margin: float = Field(default=DEFAULT_MARGIN, ge=0, le=1)
    """The difference below the champion's score that still passes; set it before the scores are known."""
    floors: dict[str, FloorValue] = Field(default={}, max_length=MAX_FLOORS)
    """Minimum AUROC or Dice by class; a model with a class below its floor is refused."""
    surface_tolerance_mm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Segmentation: tolerance of the surface Dice, about the difference between two readers' outlines; default 2. If
    set, the unit of every volume must be known."""
    length_unit: LengthUnit | None = None
    """Segmentation: unit of lengths of volumes whose header states none; without it lengths are in voxels, and there is
    no surface Dice."""
    note: str = Field(default="", max_length=200)
    """A note that is shown with the score, such as the origin of the data."""
    max_runtime_minutes: int = Field(default=240, ge=1, le=7200)

    @field_validator("floors")
    @classmethod
    def _fits_an_argument(cls, floors: dict[str, float]) -> dict[str, float]:
        for name, value in floors.items():
            if len(_floor(name, value)) > MAX_ARGUMENT or not name:
                raise ValueError(
                    f"class {name[:40]!r}: a name has at least 1 character, and with its floor {MAX_ARGUMENT} at most"
                )
        return floors


def evaluation_file() -> PropertyFile:
    """evaluation.json, where the gate and the failure message look."""
    from sagemaker.core.workflow.properties import PropertyFile

    return PropertyFile(name="evaluation", output_name=OUTPUT, path=EVALUATION_FILE)


def registration_file() -> PropertyFile:
    """registration.json, what the register step writes into the version."""
    from sagemaker.core.workflow.properties import PropertyFile

    return PropertyFile(name="registration", output_name=OUTPUT, path=REGISTRATION_FILE)


def evaluate_step(
    context: Context,
    settings: EvaluateSettings,
    data: SplitData,
    model: Any,
    champion: LambdaStep,
    deploy_mode: Literal["approval", "pipeline"],
) -> ProcessingStep:
    """Make the SDK's step; its output `evaluation` contains evaluation.json, the property file.

    Args:
        context: The build.
        settings: The evaluation job.
        data: Where the test set comes from.
        model: The candidate's model.tar.gz.
        champion: Names the versions that it is compared with.
        deploy_mode: Who sees a model before it is deployed: with too few patients a person may decide, a pipeline not.
    """
    from sagemaker.mlops.workflow.steps import ProcessingStep

    inputs = {
        "model": model,
        "split": output_uri(data.step, "split"),
        "champion": _output(champion, "champion_model"),
        "first": _output(champion, "first_model"),
    }
    return ProcessingStep(
        name="Evaluate",
        display_name="Evaluate",
        description="Score the model and the champion on the test patients.",
        step_args=make_processor(context, "evaluate", settings).run(
            inputs=[
                *(processing_input(name, uri) for name, uri in inputs.items()),
                processing_input("test", *data.source("test")),
            ],
            outputs=[processing_output(OUTPUT, context.destination("Evaluate", OUTPUT))],
            arguments=_arguments(context, settings, champion, deploy_mode),
        ),
        property_files=[evaluation_file(), registration_file()],
        cache_config=context.cache(),
        retry_policies=job_retries(),
    )


def _arguments(context: Context, settings: EvaluateSettings, champion: LambdaStep, deploy_mode: str) -> list[Any]:
    named: dict[str, Any] = {
        "task": context.task,
        "margin": str(settings.margin),
        "deploy-mode": deploy_mode,
        "champion-arn": _output(champion, "champion_arn"),
        "first-arn": _output(champion, "first_arn"),
        "test-uses": _output(champion, "test_uses"),
    }
    optional = {
        "surface-tolerance": settings.surface_tolerance_mm,
        "length-unit": settings.length_unit,
        "note": settings.note or None,
    }
    named |= {name: str(value) for name, value in optional.items() if value is not None}
    named |= floor_arguments(settings)
    return [part for name, value in named.items() for part in (f"--{name}", value)]


def floor_arguments(settings: EvaluateSettings) -> dict[str, str]:
    """Numbered, as no argument may come twice; one JSON object of all would not fit into 256 characters."""
    return {f"floor-{i}": _floor(*item) for i, item in enumerate(settings.floors.items(), start=1)}


def _floor(name: str, value: float) -> str:
    return f"{name}={value!r}"


def _output(champion: LambdaStep, name: str) -> Any:
    return champion.properties.Outputs[name]
