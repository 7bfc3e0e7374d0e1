"""What the synthesised template holds, and what a reviewer would look for in it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import assertions
from typer.testing import CliRunner

from infra.app import make_app
from infra.images.builds import MAKE_KEY, PUSH
from infra.names import PRODUCTION_STACK_NAME, SOURCE_KEY
from infra.settings import AccessSettings, NetworkSettings, Settings, StorageSettings, TrackingSettings
from infra.stack import STACK_NAME
from medloop.bundle import bundle_files, image_containers, load_container
from medloop.cli import app
from medloop.cloud.functions import RUNTIME, TIMEOUT_SECONDS
from medloop.cloud.sessions import BUCKET_VARIABLE, ROLE_VARIABLE
from tests.infra.actions import exists, fits
from tests.infra.conftest import EVERYTHING
from tests.infra.iam import as_list
from tests.infra.policies import Account, allowing

IGNORED = {"W3005": "CDK names a role that a function waits for twice: by reference and by DependsOn"}


@pytest.fixture(scope="module")
def checked(template: dict[str, Any]) -> assertions.Template:
    """CDK's assertions over the template."""
    return assertions.Template.from_json(template)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Account:
    """The stack with as little as there can be: no VPC, MLflow without a server, nothing kept."""
    folder = tmp_path_factory.mktemp("small")
    settings = Settings(
        network=NetworkSettings(vpc=False),
        tracking=TrackingSettings(mlflow="serverless"),
        storage=StorageSettings(keep_on_destroy=False),
        access=AccessSettings(approvers=["arn:aws:iam::111122223333:role/doctors"], jobs_read_raw_data=True),
    )
    make_app(settings, outdir=str(folder), validate=False).synth()
    return Account(json.loads((folder / f"{STACK_NAME}.template.json").read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("stack_name", [STACK_NAME, PRODUCTION_STACK_NAME])
def test_cfn_lint_finds_nothing(delivered: Path, tmp_path: Path, stack_name: str) -> None:
    """Neither errors nor warnings, except those that are answered here; of the stacks with all that they can have."""
    text = (delivered / f"{stack_name}.template.json").read_text(encoding="utf-8")
    document = tmp_path / "template.json"
    # cfn-lint checks state machines before it fills in their substitutions, and takes this one for a malformed ARN.
    document.write_text(text.replace("arn:${Partition}:", "arn:aws:"), encoding="utf-8")
    command = [Path(sys.executable).with_name("cfn-lint"), "--ignore-checks", *IGNORED, "--", document]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["Data", "Artefacts", "Logs"])
def test_buckets_are_closed(account: Account, name: str) -> None:
    """No public access, versions, lifecycle; access is logged, and encrypted with a key of ours where S3 can."""
    bucket = account.properties(account.find("AWS::S3::Bucket", f"Storage/{name}"))
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert bucket["LifecycleConfiguration"]["Rules"]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    if name == "Logs":
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        return
    key = account.arn(account.find("AWS::KMS::Key", f"Keys/{name}"))
    assert account.resolve(rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]) == key
    logs = account.name(account.find("AWS::S3::Bucket", "Storage/Logs")).lower()
    assert account.resolve(bucket["LoggingConfiguration"]["DestinationBucketName"]) == logs


def test_new_data_are_events(account: Account) -> None:
    """Of the data bucket; without a function that CDK would add to switch them on."""
    bucket = account.properties(account.find("AWS::S3::Bucket", "Storage/Data"))
    assert bucket["NotificationConfiguration"] == {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}


def test_what_holds_data_stays_when_the_stack_goes(account: Account, small: Account) -> None:
    """Unless the settings say otherwise."""
    kinds = ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::ECR::Repository")
    assert {account.resources[name]["DeletionPolicy"] for kind in kinds for name in account.by_type(kind)} == {"Retain"}
    assert {small.resources[name]["DeletionPolicy"] for kind in kinds for name in small.by_type(kind)} == {"Delete"}


def test_keys_rotate(checked: assertions.Template) -> None:
    """Every year, by themselves."""
    checked.all_resources_properties("AWS::KMS::Key", {"EnableKeyRotation": True})
    checked.resource_count_is("AWS::KMS::Key", 3)


def test_each_container_has_a_repository_as_pushing_expects_it(account: Account) -> None:
    """Names as medloop/cloud/images.py gives them; tags immutable, scanned, encrypted with our key."""
    made = [account.resolve(account.properties(name)) for name in account.by_type("AWS::ECR::Repository")]
    assert {repository["RepositoryName"] for repository in made} == {f"medloop-{name}" for name in image_containers()}
    assert "champion" not in image_containers()
    key = account.arn(account.find("AWS::KMS::Key", "Keys/Artefacts"))
    for repository in made:
        assert repository["ImageTagMutability"] == "IMMUTABLE"
        assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
        assert repository["EncryptionConfiguration"] == {"EncryptionType": "KMS", "KmsKey": key}
        rules = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
        # What is tagged is the image of a version: an endpoint that grows asks for it years later.
        assert [rule["selection"]["tagStatus"] for rule in rules] == ["untagged"]


def test_the_champion_is_the_function_that_pipelines_call(account: Account, assembly: Path) -> None:
    """Name, handler, runtime and time as medloop says; its code is the container's bundle."""
    logical = account.find("AWS::Lambda::Function", "Execution/Champion/Function/Function")
    function = account.properties(logical)
    assert function["FunctionName"] == "medloop-champion"
    assert function["Handler"] == "containers/champion/main.handler"
    assert (function["Runtime"], function["Timeout"]) == (RUNTIME, TIMEOUT_SECONDS)
    folder = assembly / f"asset.{function['Code']['S3Key'].removesuffix('.zip')}"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    bundle = {file.as_posix() for file in bundle_files(load_container("champion"))}
    assert files == {file for file in bundle if file.endswith(".py")}
    done = subprocess.run(
        [sys.executable, "-c", "import runpy; runpy.run_path('containers/champion/main.py')['handler']"],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_builds_run_a_command_that_there_is(account: Account) -> None:
    """As the command line takes it; with what it needs to know, on a machine where Docker runs."""
    project = account.resolve(account.properties(account.find("AWS::CodeBuild::Project", "Builds/Project")))
    assert json.loads(project["Source"]["BuildSpec"])["phases"]["build"]["commands"] == [MAKE_KEY, PUSH]
    assert importlib.util.find_spec(MAKE_KEY.split()[-1]) is not None
    done = CliRunner().invoke(app, [*PUSH.split()[1:], "--help"])
    assert done.exit_code == 0, done.output
    variables = {variable["Name"] for variable in project["Environment"]["EnvironmentVariables"]}
    assert {BUCKET_VARIABLE, ROLE_VARIABLE} <= variables
    assert project["Environment"]["PrivilegedMode"] is True
    assert project["Source"]["Location"].endswith(SOURCE_KEY)


def test_groups_wait_for_versions(account: Account) -> None:
    """One a task, kept with its versions."""
    groups = account.by_type("AWS::SageMaker::ModelPackageGroup")
    names = {group["Properties"]["ModelPackageGroupName"] for group in groups.values()}
    assert names == {"medloop-classification", "medloop-segmentation"}
    assert {group["DeletionPolicy"] for group in groups.values()} == {"Retain"}


def test_the_network_has_no_way_out(account: Account) -> None:
    """No gateway to the internet, no address translation, no route but to endpoints; each endpoint has a policy."""
    kinds = {resource["Type"] for resource in account.resources.values()}
    ways_out = {"InternetGateway", "NatGateway", "Route", "VPCGatewayAttachment", "TransitGatewayAttachment", "EIP"}
    assert not kinds & {f"AWS::EC2::{kind}" for kind in ways_out}
    endpoints = [account.properties(name) for name in account.by_type("AWS::EC2::VPCEndpoint")]
    assert len(endpoints) == 9
    for endpoint in endpoints:
        assert endpoint["PolicyDocument"]["Statement"]
    assert not any(account.properties(name)["MapPublicIpOnLaunch"] for name in account.by_type("AWS::EC2::Subnet"))


def test_without_a_vpc_there_is_none(small: Account) -> None:
    """Nothing of EC2, and no right to it; jobs need no VPC either."""
    assert not [name for name, resource in small.resources.items() if resource["Type"].startswith("AWS::EC2::")]
    actions = {action for _, statement in allowing(small) for action in as_list(statement["Action"])}
    assert not [action for action in actions if action.startswith("ec2:")]
    pipeline = small.role("Execution/Pipeline/Role")
    job = f"arn:aws:sagemaker:us-east-1:{small.resolve({'Ref': 'AWS::AccountId'})}:training-job/pipelines-a"
    assert small.simulate(pipeline, "sagemaker:CreateTrainingJob", job) == "allowed"


def test_settings_reach_the_stack(small: Account, account: Account) -> None:
    """MLflow's kind, approvers, and raw data for later jobs."""
    assert small.by_type("AWS::SageMaker::MlflowApp")
    assert not small.by_type("AWS::SageMaker::MlflowTrackingServer")
    assert account.by_type("AWS::SageMaker::MlflowTrackingServer")
    training = small.statements_of(small.role("Execution/Jobs/Training"))
    assert [grant for grant in training if "sagemaker:CallMlflowAppApi" in as_list(grant["Action"])]
    raw = f"{small.arn(small.find('AWS::S3::Bucket', 'Storage/Data'))}/raw/a"
    assert small.simulate(small.role("Execution/Jobs/Training"), "s3:GetObject", raw) == "allowed"


def test_no_allowed_action_has_a_wildcard(account: Account) -> None:
    """In any policy: of roles, buckets, keys, endpoints."""
    statements = allowing(account)
    assert len(statements) > 60
    assert all("NotAction" not in statement and "NotResource" not in statement for _, statement in statements)
    wild = [
        (where, action) for where, statement in statements for action in as_list(statement["Action"]) if "*" in action
    ]
    assert wild == []


UNLISTED = ("sagemaker:CreateModel", ":model-package/")
"""CreateModel is about the version of another account too, which AWS lists in the guide and not in its reference.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-registry-deploy.html
"""


def problems_of_actions(account: Account) -> list[str]:
    """Actions that don't exist, or are about none of their resources, and resources that none is about."""

    def is_about(action: str, resource: str) -> bool:
        return fits(action, resource) or (action == UNLISTED[0] and UNLISTED[1] in resource)

    problems = []
    for where, statement in allowing(account):
        if "Resource" not in statement:
            continue
        actions, resources = as_list(statement["Action"]), as_list(statement["Resource"])
        problems += [f"{where}: {action} does not exist" for action in actions if not exists(action)]
        known = [action for action in actions if exists(action)]
        problems += [
            f"{where}: {action} is about none of {resources}"
            for action in known
            if not any(is_about(action, resource) for resource in resources)
        ]
        problems += [
            f"{where}: nothing in {known} is about {resource}"
            for resource in resources
            if not any(is_about(action, resource) for action in known)
        ]
    return problems


def test_actions_exist_and_can_be_about_their_resources(account: Account) -> None:
    """A statement that can never match is a right that its author thinks is there."""
    assert problems_of_actions(account) == []


def test_outputs_are_what_the_command_line_reads(template: dict[str, Any]) -> None:
    """Variables of medloop/cloud, and settings of pipelines."""
    expected = {
        "ApproverRoleArn",
        "ArtefactKeyArn",
        "ChampionFunctionArn",
        "DataBucket",
        "EngineerRoleArn",
        "ImagesProject",
        "MedloopBucket",
        "MedloopEvaluationRoleArn",
        "MedloopInferenceRoleArn",
        "MedloopProcessingRoleArn",
        "MedloopRoleArn",
        "MedloopTrainingRoleArn",
        "SecurityGroup",
        "Subnets",
        "TrackingUri",
    }
    assert expected <= set(template["Outputs"])


@pytest.mark.slow
def test_two_syntheses_give_the_same_template(assembly: Path, tmp_path: Path) -> None:
    """So that a deployment shows what changed, and nothing else."""
    make_app(EVERYTHING, outdir=str(tmp_path), validate=False).synth()
    first, second = ((folder / f"{STACK_NAME}.template.json").read_bytes() for folder in (assembly, tmp_path))
    assert first == second
