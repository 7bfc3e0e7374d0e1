"""Definitions of every preset and of the options that change their form, held against what AWS publishes.

The schema of definitions and what else was proven, botocore's lengths, counts and patterns for each request as an
execution sends it, and the schema of a model package's card.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from medloop.cloud.target import Target
from medloop.definition.read import read_definition
from medloop.definition.requests import operation_problems
from medloop.definition.service_shape import check_members, unproven
from medloop.definition.step_types import type_of
from medloop.definition.validate import validate
from medloop.documents.package_card import card_problem
from medloop.presets import load_presets
from medloop.settings import resolve
from tests.pipelines.executed import executed

KEY = "arn:aws:kms:us-east-1:000000000000:key/01234567-89ab-cdef-0123-456789abcdef"
VPC = ("network.subnets=[subnet-0123abcd]", "network.security_group_ids=[sg-0123abcd]", f"network.kms_key={KEY}")
STATED = tuple(
    f"registration.{name}=known"
    for name in ("intended_use", "population", "exclusions", "reference_standard", "annotators")
)
OPTIONS = {
    "deploy": ("deploy.mode=pipeline",),
    "tune": ("tune.enabled=true",),
    "script": ("train.mode=script",),
    "manifest": ("split.layout=manifest",),
    "vpc": VPC,
    "vpc, deployed": (*VPC, "deploy.mode=pipeline", "network.encrypt_inter_container=true"),
    "isolated": (*VPC, "network.isolation=true", "deploy.mode=pipeline"),
    "asynchronous": ("deploy.mode=pipeline", "deploy.kind=async", f"network.kms_key={KEY}"),
    "serverless": ("deploy.mode=pipeline", "deploy.kind=serverless"),
    "warm pool": ("train.keep_alive_minutes=30",),
    "spot": ("train.spot=true",),
    "stated": STATED,
    "Hyperband": ("tune.enabled=true", "tune.strategy=Hyperband", "tune.max_runtime_minutes=60"),
    "warm start": ("tune.enabled=true", "tune.warm_start.jobs=[earlier]", "tune.random_seed=3", *VPC),
    "tuned on Spot": ("tune.enabled=true", "train.spot=true"),
    "floors": ("evaluate.floors={a: 0.5}", "evaluate.note=of the year 2026"),
}
NOT_PROVEN = {
    "Arguments.TrainingJobDefinition.Environment",
    "Arguments.TrainingJobDefinition.ResourceConfig.KeepAlivePeriodInSeconds",
    "Arguments.HyperParameterTuningJobConfig.RandomSeed",
    "Arguments.HyperParameterTuningJobConfig.StrategyConfig",
    "Arguments.HyperParameterTuningJobConfig.ResourceLimits.MaxRuntimeInSeconds",
    "Arguments.AsyncInferenceConfig.OutputConfig",
}
"""What these definitions have without proof; README's limits say so."""
FAST = {("classification", "deploy"), ("segmentation", "stated"), ("classification", "tune")}


def variants() -> Iterator[object]:
    """Both pipelines with each option, and every preset: (pipeline, preset, sets)."""
    for pipeline in ("classification", "segmentation"):
        for option, sets in OPTIONS.items():
            speed = () if (pipeline, option) in FAST else pytest.mark.slow
            yield pytest.param(pipeline, None, sets, id=f"{pipeline} {option}", marks=speed)
    for name, preset in load_presets().items():
        yield pytest.param(preset.pipeline, name, (), id=name, marks=pytest.mark.slow)


@pytest.mark.parametrize(("pipeline", "preset", "sets"), variants())
def test_a_definition_is_one_that_aws_takes(
    target: Target, pipeline: str, preset: str | None, sets: tuple[str, ...]
) -> None:
    """No member that isn't known, no request beyond the service's limits, a card within its schema."""
    resolved = resolve(pipeline, preset, sets)
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
