"""The model card that a version carries: SageMaker's model package card, filled in while the pipeline runs.

ModelCardContent is one JSON text, of which the settings are known when the definition is built and the results when it
runs. `Std:Join` puts them together: what it inserts are registration.json's texts, URIs and parameters, all of
characters that JSON never escapes, and its JSON (numbers, and metrics whose classes no definition knows in advance), so
that the text is always valid JSON.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-details.html#model-card-schema
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.data_card import CardFields
from medloop.documents.card import DETAIL_FIELDS, REQUIRED_CARD_FIELDS, RESULT_DETAILS, split_details
from medloop.documents.file_names import REPORT_FILE
from medloop.documents.registration import HYPERPARAMETERS
from steps.common import Context, Settings, output_uri
from steps.evaluate import OUTPUT

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.steps import ProcessingStep


_SEPARATORS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"}


class CardSettings(CardFields, Settings):
    """The model card's fields as settings."""

    @property
    def missing_fields(self) -> tuple[str, ...]:
        """The required fields that are empty; a version without them can't be approved."""
        values = self.model_dump(include=set(REQUIRED_CARD_FIELDS))
        return tuple(name for name in REQUIRED_CARD_FIELDS if not values[name].strip())


@dataclass(frozen=True)
class _Text:
    """A JSON string that the run fills in."""

    value: Any


@dataclass(frozen=True)
class _Json:
    """A JSON value that the run fills in, from a text that is one: a number, or lists of metrics."""

    value: Any


def joined(card: Any) -> list[Any]:
    """Return a card's JSON in parts, texts and expressions in turn, for `Std:Join`."""
    parts: list[Any] = []
    for part in _json(card):
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def _json(value: Any) -> Iterator[Any]:
    if isinstance(value, _Text):
        yield from ('"', value.value, '"')
    elif isinstance(value, _Json):
        yield value.value
    elif isinstance(value, dict):
        for index, (name, member) in enumerate(value.items()):
            yield f"{', ' if index else '{'}{json.dumps(name)}: "
            yield from _json(member)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield ", " if index else "["
            yield from _json(member)
        yield "]" if value else "[]"
    else:
        # The service's `.*` matches no line separator, and any of them is valid within a JSON string.
        yield json.dumps(value, ensure_ascii=False).translate(_SEPARATORS)


def model_card(
    context: Context,
    settings: CardSettings,
    registered: Callable[[str], Any],
    *,
    split: ProcessingStep,
    evaluate: ProcessingStep,
    model: Any,
) -> dict[str, Any]:
    """Return the request's ModelCard, a draft until someone reviews it.

    Args:
        context: The build.
        settings: The fields that a person wrote.
        registered: An expression for a text of registration.json, by its name.
        split: The step that makes train and test.
        evaluate: The evaluation, whose report the card names.
        model: The artefact's S3 URI.
    """
    from sagemaker.core.workflow.functions import Join

    card = {
        "model_overview": {
            "model_creator": settings.owner or "medloop",
            "model_artifact": [_Text(model)],
        },
        "intended_uses": _non_empty(
            purpose_of_model=settings.purpose,
            intended_uses=settings.intended_use,
            factors_affecting_model_efficiency=settings.limits,
            risk_rating=settings.risk_rating,
            explanations_for_risk_rating=settings.risk_explained,
        ),
        **_non_empty(
            business_details=_non_empty(
                business_problem=settings.business_problem,
                business_stakeholders=settings.stakeholders,
                line_of_business=settings.line_of_business,
            )
        ),
        "training_details": _training(context, registered),
        "evaluation_details": [_evaluation(registered, split, evaluate)],
        "additional_information": _non_empty(
            ethical_considerations=settings.ethics,
            caveats_and_recommendations=settings.limits,
            custom_details=_non_empty(
                task=context.task,
                **{name: _Text(registered(name)) for name in RESULT_DETAILS},
                **split_details({name: getattr(settings, name) for name in DETAIL_FIELDS}),
            ),
        ),
    }
    return {"ModelCardContent": Join(on="", values=joined(card)), "ModelCardStatus": "Draft"}


def _training(context: Context, registered: Callable[[str], Any]) -> dict[str, Any]:
    best = {"name": _Text(registered("best_name")), "value": _Json(registered("best_value"))}
    names = {"network": "network", **{name: name for name in HYPERPARAMETERS}}
    return {
        "training_job_details": {
            "training_datasets": [_Text(context.parameters["InputData"])],
            "user_provided_training_metrics": [best],
            "user_provided_hyper_parameters": [
                {"name": name, "value": _Text(registered(key))} for name, key in names.items()
            ],
        }
    }


def _evaluation(registered: Callable[[str], Any], split: ProcessingStep, evaluate: ProcessingStep) -> dict[str, Any]:
    """Return the evaluation in the schema's own metric types, which Studio draws, and the URI of the report.

    The report is a page, and none of ModelMetrics' reports (bias, explainability, data quality): it is named here.
    """
    from sagemaker.core.workflow.functions import Join

    notes = ("split_train", "split_val", "split_test", "leakage", "quarantined", "evidence", "champion", "test_uses")
    report = Join(on="/", values=[output_uri(evaluate, OUTPUT), REPORT_FILE])
    return {
        "name": "held-out patients",
        "evaluation_job_arn": _Text(evaluate.properties.ProcessingJobArn),
        "datasets": [_Text(output_uri(split, "test"))],
        "metadata": {name: _Text(registered(name)) for name in (*notes, "report_digest")} | {"report": _Text(report)},
        "metric_groups": _Json(registered("metric_groups")),
    }


def _non_empty(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}
