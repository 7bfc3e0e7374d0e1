"""Simulations of the roles' policies with each definition's own arguments: no step is denied what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
from moto import mock_aws

from aws_smoke.executed import Executed, executed
from infra.names import ROLE_PATHS as ROLES
from medloop.cloud.target import Target
from medloop.definition.read import member
from medloop.settings import resolve
from pipelines.variants import STATED
from tests.infra.policies import Account
from tests.infra.template import ACCOUNT, REGION

pytestmark = pytest.mark.slow
VARIANTS = [
    ("segmentation", "small-volumes", ()),
    ("classification", None, ()),
    ("classification", None, STATED),
    ("segmentation", None, ("tune.enabled=true", *STATED)),
    ("segmentation", None, ("train.spot=true", "train.keep_alive_minutes=0")),
    ("classification", "lab-03-own-container", ()),
]
Need = tuple[str, str, str, dict[str, Any]]
"""Role's ARN, action, resource, condition keys."""


@pytest.fixture(scope="module")
def stack(account: Account) -> dict[str, Any]:
    """The stack's own names: buckets, roles, key, network."""
    bucket = {name: account.arn(account.find("AWS::S3::Bucket", f"Storage/{name}")) for name in ("Artefacts", "Data")}
    group = account.find("AWS::EC2::SecurityGroup", "Network/Jobs")
    return {
        "artefacts": bucket["Artefacts"].removeprefix("arn:aws:s3:::"),
        "data": bucket["Data"].removeprefix("arn:aws:s3:::"),
        "key": account.arn(account.find("AWS::KMS::Key", "Keys/Artefacts")),
        "subnets": list(account.by_type("AWS::EC2::Subnet")),
        "groups": [f"{group}.GroupId"],
        "pipeline": account.role(ROLES["pipeline"]),
        "jobs": {name: account.role(ROLES[name]) for name in ("processing", "training", "evaluation", "inference")},
    }


def build(stack: Mapping[str, Any], pipeline: str, preset: str | None, sets: tuple[str, ...]) -> str:
    """The definition for the stack's account; network and key are filled in by the request's own members."""
    resolved = resolve(pipeline, preset, (*sets, *NETWORK))
    with mock_aws():
        session = boto3.Session("none", "none", region_name=REGION)
        target = Target("aws", session, stack["artefacts"], stack["pipeline"], ACCOUNT, REGION, stack["jobs"])
        text = str(resolved.spec.build(resolved.settings, target).definition())
    for name, value in PLACEHOLDERS.items():
        text = text.replace(name, value(stack))
    return text


PLACEHOLDERS = {
    "subnet-00000001": lambda stack: stack["subnets"][0],
    "subnet-00000002": lambda stack: stack["subnets"][1],
    "sg-00000001": lambda stack: stack["groups"][0],
    "arn:aws:kms:us-east-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef": lambda stack: stack["key"],
}
"""Settings take ids of AWS's form; the template's are logical names."""
NETWORK = (
    "network.subnets=[subnet-00000001, subnet-00000002]",
    "network.security_group_ids=[sg-00000001]",
    "network.isolate_processing=true",
    "network.kms_key=arn:aws:kms:us-east-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",
)


def needs(stack: Mapping[str, Any], sent: Executed) -> Iterator[Need]:
    """Yield what a step needs, of the pipeline's role and of its job's."""
    arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
    pipeline, request = stack["pipeline"], sent.request
    tags = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in request.get("Tags", [])}
    if sent.step.type == "Lambda":
        yield pipeline, "lambda:InvokeFunction", sent.step.document["FunctionArn"], {}
    elif sent.step.type == "RegisterModel":
        version = f"{arn}:model-package/{request['ModelPackageGroupName']}/1"
        status = {"sagemaker:ModelApprovalStatus": request["ModelApprovalStatus"]}
        yield pipeline, "sagemaker:CreateModelPackage", version, status
        (container,) = request["InferenceSpecification"]["Containers"]
        yield from _objects(pipeline, "s3:GetObject", [container["ModelDataUrl"]], stack["key"])
    elif sent.step.type in KINDS:
        kind, operation, path = KINDS[sent.step.type]
        job = member(request, path) if path else request
        name = f"{arn}:{kind}/{sent.name}"
        vpc = member(job, "NetworkConfig.VpcConfig") or job["VpcConfig"]
        network = {"sagemaker:VpcSubnets": vpc["Subnets"], "sagemaker:VpcSecurityGroupIds": vpc["SecurityGroupIds"]}
        isolated = member(job, KINDS_ISOLATION.get(kind, "EnableNetworkIsolation"))
        network["sagemaker:NetworkIsolation"] = str(bool(isolated)).lower()
        yield pipeline, f"sagemaker:{operation}", name, {**network, **tags}
        yield pipeline, "sagemaker:AddTags", name, {"sagemaker:TaggingAction": operation, **tags}
        yield pipeline, "iam:PassRole", job["RoleArn"], {"iam:PassedToService": "sagemaker.amazonaws.com"}
        yield from _job(stack, job)
    yield from _objects(pipeline, "s3:GetObject", sent.property_files, stack["key"])


KINDS = {
    "Processing": ("processing-job", "CreateProcessingJob", ""),
    "Training": ("training-job", "CreateTrainingJob", ""),
    "Tuning": ("hyper-parameter-tuning-job", "CreateHyperParameterTuningJob", "TrainingJobDefinition"),
}


KINDS_ISOLATION = {"processing-job": "NetworkConfig.EnableNetworkIsolation"}


def _job(stack: Mapping[str, Any], job: Mapping[str, Any]) -> Iterator[Need]:
    """The job's own needs: interfaces, image, inputs, outputs, and the grant for its encrypted volume."""
    role = job["RoleArn"]
    yield role, "ec2:CreateNetworkInterfacePermission", "*", {}
    image = member(job, "AppSpecification.ImageUri") or job["AlgorithmSpecification"]["TrainingImage"]
    repository = image.partition("/")[2].partition(":")[0].partition("@")[0]
    yield role, "ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:{image.partition('.')[0]}:repository/{repository}", {}
    inputs = [item["S3Input"]["S3Uri"] for item in job.get("ProcessingInputs", [])]
    inputs += [channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in job.get("InputDataConfig", [])]
    outputs = [item["S3Output"]["S3Uri"] for item in member(job, "ProcessingOutputConfig.Outputs") or []]
    folders = [member(job, path) for path in ("OutputDataConfig.S3OutputPath", "CheckpointConfig.S3Uri")]
    outputs += [folder for folder in folders if folder]
    for uri in inputs:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        yield role, "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": prefix}
        if bucket == stack["data"]:
            yield role, "s3:GetObject", f"arn:aws:s3:::{bucket}/{prefix}s1/img.nii.gz", {}
    artefacts = [uri for uri in inputs if uri.startswith(f"s3://{stack['artefacts']}/")]
    yield from _objects(role, "s3:GetObject", [_below(uri) for uri in artefacts], stack["key"])
    yield from _objects(role, "s3:PutObject", [f"{uri}/a/b" for uri in outputs], stack["key"])
    yield role, "kms:CreateGrant", stack["key"], {"kms:GrantIsForAWSResource": "true"}


def _below(uri: str) -> str:
    """An object of an input: itself if it is a file, else one below it."""
    return uri if uri.endswith((".tar.gz", ".json", ".key")) else f"{uri.rstrip('/')}/a"


def _objects(role: str, action: str, uris: Any, key: str) -> Iterator[Need]:
    for uri in uris:
        yield role, action, f"arn:aws:s3:::{uri.removeprefix('s3://')}", {}
        yield role, "kms:Decrypt" if action == "s3:GetObject" else "kms:GenerateDataKey", key, {}


@pytest.mark.parametrize(
    ("pipeline", "preset", "sets"), VARIANTS, ids=[f"{p} {n or ''} {s[:1]}" for p, n, s in VARIANTS]
)
def test_no_step_is_denied_what_it_needs(
    account: Account, stack: Mapping[str, Any], pipeline: str, preset: str | None, sets: tuple[str, ...]
) -> None:
    """Each step's real arguments, from the pipeline's role and from its job's."""
    data = f"s3://{stack['data']}/raw/{pipeline}/spleen/"
    denied, num_requests = [], 0
    for sent in executed(build(stack, pipeline, preset, sets), ACCOUNT, REGION, data):
        for role, action, resource, context in needs(stack, sent):
            num_requests += 1
            if account.simulate(role, action, resource, context) != "allowed":
                denied.append((sent.step.name, role.rpartition("/")[2], action, resource, context))
    assert denied == []
    assert num_requests > 40


def test_a_pipeline_that_deploys_is_denied(account: Account, stack: Mapping[str, Any]) -> None:
    """In this account the approval deploys (docs/deploy.md), and the simulation does deny."""
    model = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model/pipelines-e1-Model"
    assert account.simulate(stack["pipeline"], "sagemaker:CreateModel", model) == "denied"
