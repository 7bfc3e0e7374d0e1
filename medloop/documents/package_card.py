"""SageMaker's schema of a model package's card, which is narrower than that of ModelCard: it allows no other member.

A card outside it fails CreateModelPackage, after the training. The SDK's shapes are those of the wide card, and forbid
nothing.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-details.html#model-card-schema (version 0.1.0)
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, ValidationError

from medloop.documents.card_limits import MAX_AXIS_NAME, MAX_DETAIL, MAX_MATRIX, MAX_PARAMETER
from medloop.documents.reading import first_problem

_Text63 = Annotated[StrictStr, Field(max_length=MAX_AXIS_NAME)]
_Text256 = Annotated[StrictStr, Field(max_length=256)]
_Text1024 = Annotated[StrictStr, Field(max_length=1024)]
_Text2048 = Annotated[StrictStr, Field(max_length=2048)]
_Name = Annotated[StrictStr, Field(min_length=1, max_length=63)]
_Parameter = Annotated[StrictStr, Field(min_length=1, max_length=MAX_PARAMETER)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Row = Annotated[list[_Number], Field(min_length=1, max_length=MAX_MATRIX)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class _Overview(_Part):
    model_creator: _Text1024 = ""
    model_artifact: Annotated[list[_Text1024], Field(max_length=15)] = []


class _Uses(_Part):
    purpose_of_model: _Text2048 = ""
    intended_uses: _Text2048 = ""
    factors_affecting_model_efficiency: _Text2048 = ""
    risk_rating: Literal["High", "Medium", "Low", "Unknown"] = "Unknown"
    explanations_for_risk_rating: _Text2048 = ""


class _Business(_Part):
    business_problem: _Text2048 = ""
    business_stakeholders: _Text2048 = ""
    line_of_business: _Text2048 = ""


class _TrainingMetric(_Part):
    name: _Parameter
    notes: _Text1024 = ""
    value: _Number


class _Hyperparameter(_Part):
    name: _Parameter
    value: _Parameter


class _Environment(_Part):
    container_image: Annotated[list[_Text1024], Field(max_length=15)] = []


class _Job(_Part):
    training_arn: _Text1024 = ""
    training_datasets: Annotated[list[_Text1024], Field(max_length=15)] = []
    training_environment: _Environment = _Environment()
    training_metrics: Annotated[list[_TrainingMetric], Field(max_length=50)] = []
    user_provided_training_metrics: Annotated[list[_TrainingMetric], Field(max_length=50)] = []
    hyper_parameters: Annotated[list[_Hyperparameter], Field(max_length=100)] = []
    user_provided_hyper_parameters: Annotated[list[_Hyperparameter], Field(max_length=100)] = []


class _Objective(_Part):
    function: Literal["Maximize", "Minimize"] = "Maximize"
    facet: _Text63 = ""
    condition: _Text63 = ""


class _ObjectiveFunction(_Part):
    function: _Objective = _Objective()
    notes: _Text1024 = ""


class _Training(_Part):
    objective_function: _ObjectiveFunction = _ObjectiveFunction()
    training_observations: _Text1024 = ""
    training_job_details: _Job = _Job()


class _Metric(_Part):
    name: _Parameter
    notes: _Text1024 = ""


class _Simple(_Metric):
    type: Literal["number", "string", "boolean"]
    value: StrictBool | _Number | _Text63
    x_axis_name: _Text63 = ""
    y_axis_name: _Text63 = ""


class _Line(_Metric):
    type: Literal["linear_graph"]
    value: Annotated[list[Annotated[list[_Number], Field(min_length=2, max_length=2)]], Field(min_length=1)]
    x_axis_name: _Text63 = ""
    y_axis_name: _Text63 = ""


class _Bars(_Metric):
    type: Literal["bar_chart"]
    value: Annotated[list[_Number], Field(min_length=1)]
    x_axis_name: list[_Text63] = []
    y_axis_name: _Text63 = ""


class _Matrix(_Metric):
    type: Literal["matrix"]
    value: Annotated[list[_Row], Field(min_length=1, max_length=MAX_MATRIX)]
    x_axis_name: list[_Text63] = []
    y_axis_name: list[_Text63] = []


class _MetricGroup(BaseModel):
    """The one part that may have further members."""

    name: _Name
    metric_data: list[Annotated[_Simple | _Line | _Bars | _Matrix, Field(discriminator="type")]]


class _Evaluation(_Part):
    name: _Name
    evaluation_observation: Annotated[StrictStr, Field(max_length=2096)] = ""
    evaluation_job_arn: _Text256 = ""
    datasets: Annotated[list[_Text1024], Field(max_length=10)] = []
    metadata: dict[str, _Text1024] = {}
    metric_groups: list[_MetricGroup] = []


class _Additional(_Part):
    ethical_considerations: _Text2048 = ""
    caveats_and_recommendations: _Text2048 = ""
    custom_details: dict[str, Annotated[StrictStr, Field(max_length=MAX_DETAIL)]] = {}


class PackageCard(_Part):
    """The content of a model package's card."""

    model_overview: _Overview = _Overview()
    intended_uses: _Uses = _Uses()
    business_details: _Business = _Business()
    training_details: _Training = _Training()
    evaluation_details: list[_Evaluation] = []
    additional_information: _Additional = _Additional()


def card_problem(text: str) -> str | None:
    """Return the first reason for which the service refuses a card's content, as `path: reason`; None if it takes it.

    Args:
        text: ModelCardContent.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        return f"is no JSON ({error})"
    try:
        PackageCard.model_validate(content)
    except ValidationError as error:
        problem = first_problem(error)
        return f"{problem.field}: {problem.reason}"
    return None
