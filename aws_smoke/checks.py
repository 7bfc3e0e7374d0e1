"""The table of checks, in the order in which they run: what is free first."""

from __future__ import annotations

from aws_smoke import execution, gpu, trust
from aws_smoke.check import Check
from aws_smoke.clock import schedule_cases
from aws_smoke.definitions import pipeline_cases
from aws_smoke.hosting import hosting_cases
from aws_smoke.permissions import role_cases
from aws_smoke.registry import version_cases
from medloop.cloud.layout import NO_MODEL_FILE, PSEUDONYM_KEY, TEST_USES
from medloop.definition.cost import load_prices

JSON_GET = "`Std:JsonGet` and `Std:Join`"
SOURCE_ACCOUNT = "`aws:SourceAccount`"
DRIVERS = "the driver of training and processing hosts"
TUNING_MEMBERS = "`Environment`, `StrategyConfig`"
ASYNCHRONOUS_MEMBERS = "the output settings of an asynchronous"


def _usd(instance: str, hours: float) -> float:
    return load_prices().instances[instance].usd_per_hour * hours


CHECKS = (
    Check(
        name="roles",
        proves="each deployed role is allowed and denied what infra/simulations.yaml says",
        cases=role_cases,
        calls=("iam:SimulatePrincipalPolicy",),
    ),
    Check(
        name="pipelines",
        proves="CreatePipeline accepts each preset and each option that changes steps (pipelines/variants.py)",
        unknown=(JSON_GET, TUNING_MEMBERS, ASYNCHRONOUS_MEMBERS),
        cases=pipeline_cases,
        makes=("pipeline",),
        calls=("sagemaker:CreatePipeline", "ecr:DescribeImages"),
    ),
    Check(
        name="versions",
        proves="a version takes a complete model card and every status of approval and card",
        cases=version_cases,
        makes=("model version", "model group", "objects"),
        calls=(
            "sagemaker:CreateModelPackageGroup",
            "sagemaker:CreateModelPackage",
            "sagemaker:UpdateModelPackage",
            "sagemaker:DescribeModelPackage",
            "s3:PutObject",
        ),
    ),
    Check(
        name="endpoints",
        proves="models and endpoint configurations of each kind of hosting are accepted; no endpoint is created",
        unknown=(ASYNCHRONOUS_MEMBERS,),
        cases=hosting_cases,
        makes=("endpoint configuration", "model", "model version", "model group", "objects"),
        calls=(
            "sagemaker:CreateModelPackageGroup",
            "sagemaker:CreateModelPackage",
            "sagemaker:DescribeModelPackage",
            "sagemaker:CreateModel",
            "sagemaker:CreateEndpointConfig",
            "sagemaker:DescribeEndpointConfig",
            "s3:PutObject",
        ),
        images=("serve",),
    ),
    Check(
        name="schedule",
        proves="a schedule two minutes ahead starts a pipeline once, which fails by its condition",
        cases=schedule_cases,
        makes=("schedule", "execution", "pipeline", "role"),
        calls=(
            "iam:CreateRole",
            "iam:PutRolePolicy",
            "scheduler:CreateSchedule",
            "scheduler:GetSchedule",
            "sagemaker:CreatePipeline",
            "sagemaker:ListPipelineExecutions",
            "sagemaker:DescribePipelineExecution",
            "sagemaker:ListPipelineExecutionSteps",
        ),
    ),
    Check(
        name="source-account",
        proves="which requests name the account when SageMaker assumes a role; jobs are stopped at once",
        unknown=(SOURCE_ACCOUNT,),
        cases=trust.trust_cases,
        makes=("execution", "job", "pipeline", "model", "role"),
        calls=(
            "iam:CreateRole",
            "sagemaker:CreatePipeline",
            "sagemaker:StartPipelineExecution",
            "sagemaker:DescribePipelineExecution",
            "sagemaker:CreateModel",
            "sagemaker:CreateProcessingJob",
            "sagemaker:CreateTrainingJob",
            "sagemaker:CreateHyperParameterTuningJob",
            "sagemaker:DescribeProcessingJob",
            "sagemaker:DescribeTrainingJob",
            "sagemaker:DescribeHyperParameterTuningJob",
            "sagemaker:StopProcessingJob",
            "sagemaker:StopTrainingJob",
            "sagemaker:StopHyperParameterTuningJob",
        ),
        usd=3 * _usd(trust.INSTANCE, 1 / 60),
        most_usd=3 * _usd(trust.INSTANCE, trust.LIMIT_SECONDS / 3600),
    ),
    Check(
        name="run",
        proves="the classification pipeline runs on CPU instances, and Register's texts are filled in",
        unknown=(JSON_GET,),
        cases=execution.execution_cases,
        makes=("execution", "pipeline", "model version", "model group", "objects"),
        calls=(
            "s3:PutObject",
            "s3:HeadObject",
            "s3:ListObjectsV2",
            "ecr:DescribeImages",
            "lambda:GetFunction",
            "sagemaker:CreateModelPackageGroup",
            "sagemaker:DescribeModelPackageGroup",
            "sagemaker:CreatePipeline",
            "sagemaker:UpdatePipeline",
            "sagemaker:DescribePipeline",
            "sagemaker:ListPipelineVersions",
            "sagemaker:StartPipelineExecution",
            "sagemaker:DescribePipelineExecution",
            "sagemaker:ListPipelineExecutionSteps",
            "sagemaker:ListModelPackages",
            "sagemaker:DescribeModelPackage",
        ),
        images=execution.CONTAINERS,
        usd=len(execution.JOBS) * _usd(execution.INSTANCE, execution.ESTIMATED_HOURS),
        most_usd=len(execution.JOBS) * _usd(execution.INSTANCE, execution.MAX_MINUTES / 60),
    ),
    Check(
        name="gpu",
        proves="a training host's driver suits the base image's CUDA",
        unknown=(DRIVERS,),
        cases=gpu.gpu_cases,
        makes=("job", "objects"),
        calls=("sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "logs:FilterLogEvents"),
        usd=_usd(gpu.INSTANCE, gpu.ESTIMATED_HOURS),
        most_usd=_usd(gpu.INSTANCE, gpu.MAX_MINUTES / 60),
        consent=True,
    ),
)
STAYS = {
    "records of jobs and their log streams, which cost nothing": (),
    "code, no-model.txt and pseudonyms' key, which `make images` and `pipelines upsert` store too": (
        "bundles/",
        NO_MODEL_FILE,
        PSEUDONYM_KEY,
    ),
    "one record of the test set's use, and a used version number in medloop-classification (check run)": (
        f"{TEST_USES}/",
    ),
}
"""What the account keeps, with the beginnings of the objects' keys."""
