"""Split: validate the images, divide them by patient, replace names by pseudonyms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from medloop.cloud.layout import PSEUDONYM_KEY
from medloop.documents.file_names import MANIFEST_FILE
from medloop.documents.label_names import LabelNames
from medloop.documents.split_rule import MEDIAN, Resampling, SplitRule
from steps.common import (
    Context,
    ProcessingResources,
    S3Uri,
    Settings,
    job_retries,
    make_processor,
    output_uri,
    processing_input,
    processing_output,
)

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.steps import ProcessingStep

OUTPUTS = ("train", "val", "test", "split")
MAX_ARGUMENT = 256
"""Characters that the service allows in one argument of a processing job."""


class DataSettings(Settings):
    """Labels of a segmentation data set."""

    labels: LabelNames | None = None
    """Structure by label value, the background first; None names them by their values."""

    @model_validator(mode="after")
    def _fits_an_argument(self) -> Self:
        if self.labels is not None and len(_labels_text(self.labels)) > MAX_ARGUMENT:
            raise ValueError(f"labels are longer than {MAX_ARGUMENT} characters in all; shorten the names")
        return self


class SplitSettings(SplitRule, ProcessingResources):
    """Settings of the split of patients."""

    previous: S3Uri | None = None
    """The `split` output of an earlier execution: its patients stay in their splits."""


@dataclass(frozen=True)
class SplitData:
    """The split data set, as later steps read it.

    Args:
        step: The step that divides it.
        settings: The settings of the split.
        dataset: Segmentation: what the data set is.
    """

    step: ProcessingStep
    settings: SplitSettings
    dataset: DataSettings | None = None

    def source(self, name: str) -> tuple[Any, Literal["S3Prefix", "ManifestFile"]]:
        """Return the URI from which one of Split's outputs is read, and its S3 data type.

        Args:
            name: `train`, `val`, `test` or `split`.
        """
        from sagemaker.core.workflow.functions import Join

        if name == "split" or self.settings.layout == "copy":
            return output_uri(self.step, name), "S3Prefix"
        return Join(on="/", values=[output_uri(self.step, name), MANIFEST_FILE]), "ManifestFile"


def split_step(
    context: Context,
    settings: SplitSettings,
    dataset: DataSettings | None = None,
    resampling: Resampling = MEDIAN,
) -> ProcessingStep:
    """Make the SDK's step; outputs train, val, test and split (split.json).

    Args:
        context: The build.
        settings: How patients are divided.
        dataset: Segmentation: what the data set is.
        resampling: Segmentation: the voxel size of training, for which no volume may be too large.
    """
    from sagemaker.mlops.workflow.steps import ProcessingStep

    inputs = [
        processing_input("data", context.parameters["InputData"]),
        processing_input("key", f"s3://{context.target.bucket}/{PSEUDONYM_KEY}"),
    ]
    if settings.previous is not None:
        inputs.append(processing_input("previous", settings.previous))
    return ProcessingStep(
        name="Split",
        display_name="Split",
        description="Validate the images, divide them by patient, replace names by pseudonyms.",
        step_args=make_processor(context, "split", settings).run(
            inputs=inputs,
            outputs=[processing_output(name, context.destination("Split", name)) for name in OUTPUTS],
            arguments=_arguments(context, settings, dataset.labels if dataset else None, resampling),
        ),
        cache_config=context.cache(fixed_inputs=settings.previous is None),
        retry_policies=job_retries(),
    )


def _arguments(
    context: Context, settings: SplitSettings, labels: list[str] | None, resampling: Resampling
) -> list[object]:
    """Arguments of containers/split; DataVersion is there for the step cache, which compares arguments, not data."""
    named: dict[str, object] = {
        "task": context.task,
        "train": settings.train,
        "val": settings.val,
        "test": settings.test,
        "seed": settings.seed,
        "on-invalid": settings.on_invalid,
        "data-version": context.parameters["DataVersion"],
    }
    if labels is not None:
        named["labels"] = _labels_text(labels)
    # Defaults are left out, so that definitions of earlier versions are unchanged.
    named |= {name: json.dumps(value) for name, value in resampling.model_dump(exclude_defaults=True).items()}
    if settings.layout == "manifest":
        named |= {"layout": "manifest", "data-uri": context.parameters["InputData"]}
    texts = {name: value if name in ("data-version", "data-uri") else str(value) for name, value in named.items()}
    return [part for name, value in texts.items() for part in (f"--{name}", value)]


def _labels_text(labels: list[str]) -> str:
    return json.dumps(labels, ensure_ascii=False)
