"""What settings change in the definition."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from medloop.cloud.sessions import Target
from medloop.cloud.upsert import build_definition
from medloop.definition.read import Definition, read_definition
from medloop.errors import SettingError
from medloop.settings import resolve

pytestmark = pytest.mark.slow


def built_with(target: Target, name: str, sets: Sequence[str]) -> Definition:
    """A definition with some settings."""
    return read_definition(build_definition(target, resolve(name, None, sets)))


def test_labels_reach_split_as_json(target: Target) -> None:
    """Structures' names are one argument, in JSON, letters of all languages kept."""
    split = built_with(target, "segmentation", ["data.labels=[background, Drüse]"]).step("Split")
    arguments = split.arguments["AppSpecification"]["ContainerArguments"]
    assert arguments[arguments.index("--labels") + 1] == '["background", "Drüse"]'


def test_a_given_uri_is_an_input_and_its_step_is_never_cached(target: Target) -> None:
    """AWS compares a URI's name, not what lies there by now."""
    definition = built_with(
        target, "classification", ["split.previous=s3://b/old/split", "train.weights=s3://b/old/model.tar.gz"]
    )
    split, train = definition.step("Split"), definition.step("Train")
    inputs = {entry["InputName"]: entry["S3Input"]["S3Uri"] for entry in split.arguments["ProcessingInputs"]}
    assert inputs["previous"] == "s3://b/old/split"
    channels = {channel["ChannelName"] for channel in train.arguments["InputDataConfig"]}
    assert channels == {"train", "val", "split", "weights"}
    assert split.document["CacheConfig"] == train.document["CacheConfig"] == {"Enabled": False}
    assert definition.step("Evaluate").document["CacheConfig"]["Enabled"]


def test_caching_can_be_switched_off(target: Target) -> None:
    """cache_days=0 runs every step each time."""
    definition = built_with(target, "classification", ["cache_days=0"])
    assert {str(definition.step(name).document["CacheConfig"]) for name in ("Split", "Train", "Evaluate")} == {
        "{'Enabled': False}"
    }


def test_what_the_service_would_refuse_is_refused_at_build(target: Target) -> None:
    """A setting of the right type but not of the service's: the step and the member are named."""
    with pytest.raises(SettingError, match=r"step Split: .*InstanceType: 'ml\.toaster\.xlarge' is none of"):
        built_with(target, "classification", ["split.instance_type=ml.toaster.xlarge"])
    with pytest.raises(SettingError, match=r"step Split: .*Tags.*'a\*b' does not match"):
        built_with(target, "classification", ["tags.owner='a*b'"])
