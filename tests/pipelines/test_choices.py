"""What settings change in the definition."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import boto3
import pytest
from moto import mock_aws

from medloop.bundle import load_container
from medloop.cloud.base_images import base_image_uri
from medloop.cloud.target import Target
from medloop.cloud.upsert import build_definition
from medloop.definition.read import Definition, read_definition, references
from medloop.errors import SettingError
from medloop.settings import resolve
from tests.pipelines.world import unreachable_target

pytestmark = pytest.mark.slow


def built_with(target: Target, name: str, sets: Sequence[str]) -> Definition:
    """A definition with some settings."""
    return read_definition(build_definition(target, resolve(name, None, sets)))


def test_labels_reach_split_as_json(target: Target) -> None:
    """Structures' names are one argument, in JSON, letters of all languages kept."""
    split = built_with(target, "segmentation", ["data.labels=[background, Drüse]"]).step("Split")
    arguments = split.arguments["AppSpecification"]["ContainerArguments"]
    assert arguments[arguments.index("--labels") + 1] == '["background", "Drüse"]'


@pytest.mark.parametrize("sets", [(), ("evaluate.surface_tolerance_mm=1.5", "evaluate.length_unit=micron")])
def test_tolerance_and_unit_reach_evaluate_if_they_are_set(target: Target, sets: tuple[str, ...]) -> None:
    """The job knows their defaults, which depend on the volumes' headers."""
    evaluate = built_with(target, "segmentation", sets).step("Evaluate")
    texts = [text for text in evaluate.arguments["AppSpecification"]["ContainerArguments"] if isinstance(text, str)]
    named = [texts[i : i + 2] for i, text in enumerate(texts) if text in ("--surface-tolerance", "--length-unit")]
    assert named == ([["--surface-tolerance", "1.5"], ["--length-unit", "micron"]] if sets else [])


def test_a_project_names_pipeline_group_and_endpoint(target: Target) -> None:
    """Its versions are in a group of its own, where its champion is looked up; tags and outputs follow."""
    definition = built_with(target, "segmentation", ["project=prostate"])
    text = json.dumps([step.arguments for step in definition.in_order()])
    (endpoint,) = [p.default for p in definition.parameters if p.name == "EndpointName"]
    assert endpoint == "medloop-segmentation-prostate"
    assert definition.step("Register").arguments["ModelPackageGroupName"] == endpoint
    assert definition.step("Champion").arguments["group"] == endpoint
    assert "executions/segmentation-prostate" in text
    assert "executions/segmentation/" not in text


def test_a_projects_endpoint_may_have_another_name(target: Target) -> None:
    """A name that was set is kept."""
    definition = built_with(target, "classification", ["project=skin", "deploy.endpoint_name=clinic"])
    assert next(p.default for p in definition.parameters if p.name == "EndpointName") == "clinic"


def test_a_given_uri_is_an_input_and_its_step_is_never_cached(target: Target) -> None:
    """AWS compares a URI's name, not the objects stored there now."""
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


NETWORK = (
    "network.subnets=[subnet-0123456789abcdef0]",
    "network.security_group_ids=[sg-0123456789abcdef0]",
    "network.kms_key=12345678-1234-1234-1234-123456789012",
    "network.isolation=true",
    "network.encrypt_inter_container=true",
)


def test_network_and_keys_hold_for_every_job(target: Target) -> None:
    """The same VPC, key, isolation and encryption in processing and training, each where its request has it."""
    definition = built_with(target, "segmentation", [*NETWORK, "train.instance_type=ml.m5.xlarge"])
    vpc = {"SecurityGroupIds": ["sg-0123456789abcdef0"], "Subnets": ["subnet-0123456789abcdef0"]}
    key = "12345678-1234-1234-1234-123456789012"
    for name in ("Split", "Evaluate"):
        arguments = definition.step(name).arguments
        assert arguments["NetworkConfig"] == {
            "EnableNetworkIsolation": True,
            "EnableInterContainerTrafficEncryption": True,
            "VpcConfig": vpc,
        }
        assert arguments["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == key
        assert arguments["ProcessingOutputConfig"]["KmsKeyId"] == key
    train = definition.step("Train").arguments
    assert (train["EnableNetworkIsolation"], train["EnableInterContainerTrafficEncryption"]) == (True, True)
    assert train["VpcConfig"] == vpc
    assert train["OutputDataConfig"]["KmsKeyId"] == train["ResourceConfig"]["VolumeKmsKeyId"] == key


def test_spot_waits_and_keeps_checkpoints_where_the_same_training_finds_them(target: Target) -> None:
    """The place depends on all that shapes the model and on nothing that differs from run to run."""
    small = ["train.spot=true", "train.max_runtime_minutes=60"]
    train = built_with(target, "classification", small).step("Train").arguments
    assert train["EnableManagedSpotTraining"]
    assert train["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    checkpoint = train["CheckpointConfig"]
    assert checkpoint["LocalPath"] == "/opt/ml/checkpoints"
    used = set(references(checkpoint))
    assert used == {f"Parameters.{n}" for n in ("DataVersion", "ModelName", "Epochs", "BatchSize", "LearningRate")}

    def root(*more: str) -> str:
        other = built_with(target, "classification", [*small, *more]).step("Train").arguments
        return str(other["CheckpointConfig"]["S3Uri"]["Std:Join"]["Values"][0])

    # No prefix contains another: .../0.001 would be one of .../0.0015, and S3 lists by prefix.
    assert checkpoint["S3Uri"]["Std:Join"]["Values"][-1] == "state"
    assert root("train.hyperparameters.seed=1") != root() != root("split.seed=1")
    assert root("gate.min_score=0.5", "train.instance_type=ml.g4dn.xlarge") == root()


def test_train_keeps_checkpoints_unless_what_they_are_of_may_change_unseen(target: Target) -> None:
    """A job that is tried again resumes; script mode too. Checkpoints of other weights or splits would be refused."""

    def is_kept(*sets: str) -> bool:
        step = "Tune" if "tune.enabled=true" in sets else "Train"
        arguments = built_with(target, "classification", sets).step(step).arguments
        return "CheckpointConfig" in arguments.get("TrainingJobDefinition", arguments)

    assert is_kept()
    assert is_kept("train.mode=script")
    assert not is_kept("train.checkpoints=false")
    assert not is_kept("train.weights=s3://b/model.tar.gz")
    assert not is_kept("split.previous=s3://b/old")
    assert is_kept("split.previous=s3://b/old", "train.checkpoints=true")
    assert is_kept("train.weights=s3://b/model.tar.gz", "train.spot=true")
    assert not is_kept("tune.enabled=true")
    assert is_kept("tune.enabled=true", "train.spot=true")


def test_a_warm_pool_is_requested(target: Target) -> None:
    """Minutes become the service's seconds."""
    train = built_with(target, "classification", ["train.keep_alive_minutes=30"]).step("Train").arguments
    assert train["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 1800


SCRIPT = ("train.mode=script", "train.keep_alive_minutes=30", "train.pip_cache=true")


def test_script_mode_is_stable_and_uploads_nothing_while_building() -> None:
    """Two builds are byte-identical: code and drivers lie where their contents say, stored by upsert alone."""
    calls: list[str] = []
    resolved = resolve("classification", None, SCRIPT)
    worlds = [unreachable_target(calls), unreachable_target(calls)]
    builds = [(world, resolved.spec.build(resolved.settings, world).definition()) for world in worlds]
    assert builds[0][1] == builds[1][1]
    assert calls == []
    target, text = builds[0]
    train = read_definition(text).step("Train").arguments
    sources = {c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in train["InputDataConfig"]}
    assert sources["code"] == f"s3://{target.bucket}/{target.bundle('classify').key}"
    prefix = sources["sm_drivers"].removeprefix(f"s3://{target.bucket}/")
    assert f"{prefix}/sm_train.sh" in target.objects
    assert all(key.startswith(prefix) and "__pycache__" not in key for key in target.objects)
    script = target.objects[f"{prefix}/sm_train.sh"].decode()
    assert "containers/classify/requirements.txt" in script
    assert train["AlgorithmSpecification"]["TrainingImage"] == load_container("classify").base
    assert train["Environment"]["PIP_CACHE_DIR"] == "/opt/ml/sagemaker/warmpoolcache/pip"
    assert train["Environment"]["PYTHONPATH"] == "/opt/ml/input/data/code"


def test_script_mode_takes_the_image_of_the_targets_region() -> None:
    """Deep learning containers are pulled within the region."""
    name = load_container("segment").base.partition("/")[2]
    for region, registry in (
        ("eu-central-1", "763104351884.dkr.ecr.eu-central-1.amazonaws.com"),
        ("eu-south-1", "692866216735.dkr.ecr.eu-south-1.amazonaws.com"),
        ("me-central-1", "914824155844.dkr.ecr.me-central-1.amazonaws.com"),
    ):
        assert replace(unreachable_target([]), region=region).base_image("segment") == f"{registry}/{name}"


def test_an_image_of_cuda_12_can_be_the_base() -> None:
    """Of AWS's other repository, which has accounts of its own by region; its tag says that it is for GPUs."""
    image = "pytorch-training:2.8.0-gpu-py312-cu129-ubuntu22.04-sagemaker"
    uri = base_image_uri(f"763104351884.dkr.ecr.us-east-1.amazonaws.com/{image}", "cn-north-1")
    assert uri == f"727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/{image}"
    assert load_container("segment").model_copy(update={"base": uri}).is_built_for_gpus


def test_a_region_without_base_images_is_refused() -> None:
    """The message names regions that have them; images of other registries are taken as they are."""
    with pytest.raises(
        SettingError, match=r"region cn-north-1: AWS publishes no image pytorch:.* use one of af-south-1"
    ):
        replace(unreachable_target([]), region="cn-north-1").base_image("segment")
    assert replace(unreachable_target([]), region="cn-north-1").base_image("split") == load_container("split").base


def test_script_mode_needs_the_network(target: Target) -> None:
    """Its requirements are installed when the job starts."""
    with pytest.raises(SettingError, match=r"train\.mode=script installs its requirements from the network"):
        built_with(target, "classification", ["train.mode=script", "network.isolation=true"])


VPC = ("network.subnets=[subnet-0123abcd]", "network.security_group_ids=[sg-0123abcd]")


def test_script_mode_in_a_vpc_needs_a_package_index(target: Target) -> None:
    """Nothing in the stack's VPC leads to one; an index that the VPC reaches is passed to pip."""
    refused = r"step Train: script mode in a VPC.*train\.mode=container, or train\.package"
    with pytest.raises(SettingError, match=refused):
        built_with(target, "classification", ["train.mode=script", *VPC])
    index = "https://d-123456789012.d.codeartifact.eu-west-1.amazonaws.com/pypi/medloop/simple/"
    train = built_with(target, "classification", ["train.mode=script", f"train.package_index={index}", *VPC]).step(
        "Train"
    )
    assert train.arguments["Environment"]["PIP_INDEX_URL"] == index
    with pytest.raises(SettingError, match="package_index is for mode=script"):
        resolve("classification", None, [f"train.package_index={index}"])


@pytest.mark.parametrize(
    ("sets", "refused"),
    [
        (
            ["evaluate.instance_type=ml.g5.xlarge"],
            r"evaluate\.instance_type=ml\.g5\.xlarge: containers/evaluate is built",
        ),
        (["split.instance_type=ml.g4dn.xlarge"], r"split\.instance_type=ml\.g4dn\.xlarge: containers/split is built"),
        (
            ["registration.inference_instances=[ml.g5.xlarge]"],
            r"registration\.inference_instances=ml\.g5\.xlarge: cont",
        ),
        (
            ["registration.transform_instances=[ml.p5.48xlarge]"],
            r"transform_instances: ml\.p5\.48xlarge has driver 535",
        ),
        (["deploy.mode=pipeline", "deploy.instance_type=ml.g6.xlarge"], r"deploy\.instance_type=ml\.g6\.xlarge: cont"),
    ],
)
def test_gpus_that_an_image_can_t_use_are_refused_on_aws(target: Target, sets: list[str], refused: str) -> None:
    """They would be paid for and idle; locally an instance type is a name."""
    resolved = resolve("classification", None, sets)
    resolved.spec.build(resolved.settings, target)
    with mock_aws():
        session = boto3.Session("none", "none", region_name="us-east-1")
        aws = Target("aws", session, "bucket", target.role_arn, target.account, "us-east-1")
        with pytest.raises(SettingError, match=refused):
            resolved.spec.build(resolved.settings, aws)


def test_training_images_have_cuda_and_the_others_fit_serverless(target: Target) -> None:
    """A serverless endpoint takes 10 GB of image; the CUDA base alone has more."""
    built = {
        name: load_container(name).is_built_for_gpus for name in ("classify", "segment", "evaluate", "serve", "split")
    }
    assert built == {"classify": True, "segment": True, "evaluate": False, "serve": False, "split": False}


def test_manifests_are_read_in_place_of_copies(target: Target) -> None:
    """Split gets the data's URI as an argument; the channels and the test input are what its manifests list."""
    definition = built_with(target, "segmentation", ["split.layout=manifest"])
    arguments = definition.step("Split").arguments["AppSpecification"]["ContainerArguments"]
    assert arguments[arguments.index("--layout") + 1] == "manifest"
    assert arguments[arguments.index("--data-uri") + 1] == {"Get": "Parameters.InputData"}
    channels = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]
        for channel in definition.step("Train").arguments["InputDataConfig"]
    }
    inputs = {i["InputName"]: i["S3Input"] for i in definition.step("Evaluate").arguments["ProcessingInputs"]}
    for name, source in {**channels, "test": inputs["test"]}.items():
        listed = name in ("train", "val", "test")
        assert source["S3DataType"] == ("ManifestFile" if listed else "S3Prefix")
        assert not listed or source["S3Uri"]["Std:Join"]["Values"][-1] == "manifest.json"
