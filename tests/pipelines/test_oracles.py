"""Definitions of every preset and of the options that change their form, held against what AWS publishes.

The schema of definitions and what else was proven, botocore's lengths, counts and patterns for each request as an
execution sends it, and the schema of a model package's card.
"""

from __future__ import annotations

import json

import pytest

from aws_smoke.executed import executed
from medloop.cloud.target import Target
from medloop.definition.read import read_definition
from medloop.definition.requests import operation_problems
from medloop.definition.service_shape import check_members, unproven
from medloop.definition.step_types import type_of
from medloop.definition.validate import validate
from medloop.documents.package_card import card_problem
from medloop.settings import resolve
from pipelines.variants import Variant, variants

NOT_PROVEN = {
    "Arguments.TrainingJobDefinition.ResourceConfig.KeepAlivePeriodInSeconds",
    "Arguments.HyperParameterTuningJobConfig.RandomSeed",
    "Arguments.HyperParameterTuningJobConfig.StrategyConfig",
    "Arguments.HyperParameterTuningJobConfig.ResourceLimits.MaxRuntimeInSeconds",
    "Arguments.AsyncInferenceConfig.OutputConfig",
}
"""What these definitions have without proof; README's limits say so."""
FAST = {"classification deploy", "segmentation stated", "classification tune"}


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, id=variant.name, marks=() if variant.name in FAST else pytest.mark.slow)
        for variant in variants()
    ],
)
def test_a_definition_is_one_that_aws_takes(target: Target, variant: Variant) -> None:
    """No member that isn't known, no request beyond the service's limits, a card within its schema."""
    resolved = resolve(variant.pipeline, variant.preset, variant.sets)
    text = resolved.spec.build(resolved.settings, target).definition()
    assert validate(text) == []
    definition = read_definition(text)
    assert list(check_members(definition)) == []
    assert {member.path for member in unproven(definition)} <= NOT_PROVEN
    requests = {sent.step.name: sent for sent in executed(text, target.account, target.region)}
    assert set(requests) == {step.name for step in definition.steps}
    for sent in requests.values():
        kind = type_of(sent.step)
        if kind.operation:
            request = sent.request | ({kind.filled_in: sent.name} if kind.filled_in else {})
            assert list(operation_problems(kind.operation, request)) == [], sent.step.name
    card = requests["Register"].request["ModelCard"]["ModelCardContent"]
    assert card_problem(card) is None
    assert json.loads(card)["additional_information"]["custom_details"]["network"] == "the network"
