"""Tune in Train's place: its request compared with Train's, and what is refused before anything is built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medloop.cloud.target import Target
from medloop.definition.validate import validate
from medloop.documents.hyperparameters import ClassificationHyperparameters, SegmentationHyperparameters
from medloop.errors import SettingError
from medloop.settings import resolve
from medloop.yaml_text import read_yaml
from steps.ranges import check_ranges
from steps.tune import TuneSettings

NETWORK = (
    "network.subnets=[subnet-0123abcd]",
    "network.security_group_ids=[sg-0123abcd]",
    "network.kms_key=arn:aws:kms:us-east-1:000000000000:key/01234567-89ab-cdef-0123-456789abcdef",
    "network.isolation=true",
    "network.encrypt_inter_container=true",
)
NOT_OF_TUNING = {"TensorBoardOutputConfig", "Tags", "TrainingJobName", "HyperParameters"}
"""What a training job's request has and a tuned job's definition doesn't."""


def build(target: Target, *sets: str) -> str:
    """The classification pipeline's definition."""
    resolved = resolve("classification", None, sets)
    return str(resolved.spec.build(resolved.settings, target).definition())


def steps(text: str) -> dict[str, dict[str, Any]]:
    """The definition's top-level steps by name."""
    return {step["Name"]: step for step in json.loads(text)["Steps"]}


@pytest.mark.slow
def test_only_what_the_service_knows_of_tuning_is_in_the_step(target: Target) -> None:
    """No internal error to retry after, and no random seed unless one is set."""
    step = steps(build(target, "tune.enabled=true"))["Tune"]
    assert {name for policy in step["RetryPolicies"] for name in policy["ExceptionType"]} == {
        "Step.SERVICE_FAULT",
        "Step.THROTTLING",
        "SageMaker.RESOURCE_LIMIT",
        "SageMaker.CAPACITY_ERROR",
    }
    assert "RandomSeed" not in step["Arguments"]["HyperParameterTuningJobConfig"]
    seeded = steps(build(target, "tune.enabled=true", "tune.random_seed=7"))["Tune"]
    assert seeded["Arguments"]["HyperParameterTuningJobConfig"]["RandomSeed"] == 7


@pytest.mark.slow
def test_tuned_jobs_are_what_train_would_run(target: Target) -> None:
    """VPC, KMS keys, isolation, encryption and a warm pool among them, which the SDK's tuner drops."""
    options = (*NETWORK, "train.instance_type=ml.m5.xlarge", "train.keep_alive_minutes=30", "train.checkpoints=true")
    train = steps(build(target, *options))["Train"]["Arguments"]
    text = build(target, "tune.enabled=true", *options)
    definition = steps(text)["Tune"]["Arguments"]["TrainingJobDefinition"]
    spoken = json.loads(json.dumps(train).replace('"Train"', '"Tune"').replace("/Train/", "/Tune/"))
    spoken["Environment"].pop("MEDLOOP_TENSORBOARD_DIR", None)
    static = dict(spoken["HyperParameters"])
    assert static.pop("learning_rate")
    assert definition.pop("StaticHyperParameters") == static
    assert definition == {name: value for name, value in spoken.items() if name not in NOT_OF_TUNING}
    for name in ("VpcConfig", "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "CheckpointConfig"):
        assert definition[name]
    assert definition["ResourceConfig"]["VolumeKmsKeyId"]
    assert definition["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 1800


@pytest.mark.slow
def test_the_best_model_goes_on(target: Target) -> None:
    """Two builds agree, the definition keeps all rules, and nothing refers to Train."""
    text = build(target, "tune.enabled=true")
    assert text == build(target, "tune.enabled=true")
    assert validate(text) == []
    assert "Train" not in steps(text)
    assert "Steps.Train." not in text
    assert "Steps.Tune.BestTrainingJob.TrainingJobName" in text
    assert "Steps.Tune.TrainingJobDefinition.OutputDataConfig.S3OutputPath" in text


@pytest.mark.slow
def test_ranges_arrive_in_the_services_words(target: Target) -> None:
    """Numbers by the hyperparameter's own type; values as text that the job reads again."""
    ranges = (
        "tune.ranges={learning_rate: {min: 1.0e-5, max: 1.0e-3, scaling: Logarithmic}, patience: {min: 1, max: 4},"
        " batch_size: {values: [2, 4]}, model_name: {values: [resnet18, densenet121]},"
        " augment: {values: [true, false]}}"
    )
    config = steps(build(target, "tune.enabled=true", ranges))["Tune"]["Arguments"]["HyperParameterTuningJobConfig"]
    ranges = config["ParameterRanges"]
    assert [item["Name"] for item in ranges["ContinuousParameterRanges"]] == ["learning_rate"]
    assert ranges["IntegerParameterRanges"] == [
        {"Name": "patience", "MinValue": "1", "MaxValue": "4", "ScalingType": "Auto"}
    ]
    values = {item["Name"]: item["Values"] for item in ranges["CategoricalParameterRanges"]}
    assert values == {
        "augment": ["true", "false"],
        "batch_size": ["2", "4"],
        "model_name": ["resnet18", "densenet121"],
    }
    hyperparameters = {name: texts[-1] for name, texts in values.items()} | {"patience": "4", "learning_rate": "1e-05"}
    read = ClassificationHyperparameters.from_wire(hyperparameters)
    assert (read.augment, read.batch_size, read.model_name, read.learning_rate) == (False, 4, "densenet121", 1e-5)


@pytest.mark.slow
def test_a_warm_start_is_never_taken_from_the_cache(target: Target) -> None:
    """The step cache doesn't compare it."""
    arn = "arn:aws:sagemaker:us-east-1:000000000000:hyper-parameter-tuning-job/first"
    tune = steps(build(target, "tune.enabled=true", f"tune.warm_start.jobs=[{arn}]"))["Tune"]
    assert tune["CacheConfig"]["Enabled"] is False
    parents = tune["Arguments"]["WarmStartConfig"]["ParentHyperParameterTuningJobs"]
    assert parents == [{"HyperParameterTuningJobName": "first"}]


REFUSED = {
    "tune.ranges={rate: {min: 1, max: 2}}": "tune.ranges.rate: no such hyperparameter",
    "tune.ranges={learning_rate: {min: 0, max: 1}}": "tune.ranges.learning_rate",
    "tune.ranges={learning_rate: {min: 0, max: 1, scaling: Logarithmic}}": "needs a min above 0",
    "tune.ranges={model_name: {min: 0, max: 1}}": "model_name: is no number",
    "tune.ranges={patience: {min: 0.5, max: 1}}": "must be whole numbers",
    "tune.ranges={model_name: {values: [alexnet]}}": "tune.ranges.model_name",
    "tune.ranges={model_name: {values: [vit]}, image_size: {values: [100, 64]}}": "multiple of 16 for vit",
    "tune.ranges={batch_size: {values: [2, 2]}}": "twice",
    "tune.strategy=Grid": "Grid takes values only",
    "tune.max_jobs=1": "max_parallel_jobs must not be greater",
    "tune={strategy: Hyperband, early_stopping: Auto}": "leave early_stopping Off",
    "tune={strategy: Hyperband, ranges: {epochs: {min: 1, max: 3}}}": "don't tune it",
    "tune={strategy: Grid, max_jobs: 3, ranges: {batch_size: {values: [2, 4]}}}": "the grid's size, 2",
    "tune.metric=val_dice": "reports no such metric",
    "tune.warm_start.jobs=[a-name-that-is-longer-than-32-chars]": "is no tuning job's name",
    "train.mode=script": "needs train.mode=container",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_aws_would_refuse_is_refused_at_build(target: Target, setting: str) -> None:
    """Before an instance is paid for, by name."""
    with pytest.raises(SettingError, match=REFUSED[setting]):
        build(target, "tune.enabled=true", setting)


@pytest.mark.parametrize("text", ["{values: [24, 48]}", "{min: 24, max: 48}", "{values: [48]}"])
def test_a_range_of_another_networks_setting_is_refused(text: str) -> None:
    """Trials would differ in nothing."""
    hyperparameters = SegmentationHyperparameters(model_name="unet")
    ranges = TuneSettings.model_validate({"ranges": {"feature_size": read_yaml(text, "range")}}).ranges
    with pytest.raises(SettingError, match=r"tune\.ranges\.feature_size: .*for swinunetr, not for unet"):
        check_ranges(ranges, hyperparameters)


@pytest.mark.parametrize(
    ("preset", "sets", "ranges"),
    [
        (None, ["smoke=true"], "{model_name: {values: [segresnet, unet]}}"),
        ("brain-tissue-demo", [], "{model_name: {values: [segresnet, unet]}}"),
        (None, [], "{model_name: {values: [segresnet, unet]}, init_filters: {values: [8, 16]}}"),
        (None, [], "{init_filters: {values: [8, 16]}, model_name: {values: [unet, segresnet]}}"),
    ],
)
def test_networks_are_searched_with_their_own_settings(preset: str | None, sets: list[str], ranges: str) -> None:
    """Also with sizes that are for one of them only; the others' trials ignore them."""
    settings = resolve("segmentation", preset, [*sets, f"tune.ranges={ranges}"]).settings
    check_ranges(settings.tune.ranges, settings.train.hyperparameters)


def test_a_range_that_no_searched_network_takes_is_refused() -> None:
    """The message names those that are searched."""
    text = "{model_name: {values: [unet, swinunetr]}, init_filters: {values: [16]}}"
    ranges = TuneSettings.model_validate({"ranges": read_yaml(text, "ranges")}).ranges
    message = r"tune\.ranges\.init_filters: init_filters is for segresnet, not for unet or swinunetr"
    with pytest.raises(SettingError, match=message):
        check_ranges(ranges, SegmentationHyperparameters())
