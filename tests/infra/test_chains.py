"""Chains of requests that led to raw data, names, forged evidence or another model: each is broken, and where.

Each chain is what one person or job would do with what a role allows, in order. `broken` are its requests that must be
denied: any one of them ends the chain.
"""

from __future__ import annotations

from typing import Any

import pytest

from infra.names import ROLE_PATHS as ROLES
from tests.infra.policies import Account
from tests.infra.test_simulations import arn, context

INSIDE = {"sagemaker:VpcSubnets": "$subnets", "sagemaker:VpcSecurityGroupIds": "$group"}
TO_SAGEMAKER = {"iam:PassedToService": "sagemaker.amazonaws.com"}
ONCE = {"s3:if-none-match": "*"}
PIPELINE, EXECUTION = "sagemaker:pipeline/segmentation", "sagemaker:pipeline/segmentation/execution/e1"
VERSION = "sagemaker:model-package/medloop-segmentation/7"
DEFINE = ("engineer", "sagemaker:UpdatePipeline", PIPELINE, {})
CREATE = ("engineer", "sagemaker:CreatePipeline", PIPELINE, {})
PASS = ("engineer", "iam:PassRole", "role:pipeline", TO_SAGEMAKER)
START = ("engineer", "sagemaker:StartPipelineExecution", PIPELINE, {})
READ_LOG = ("engineer", "logs:GetLogEvents", "logs:log-group:/aws/sagemaker/ProcessingJobs:log-stream:a", {})
EVIDENCE = "artefacts/executions/segmentation/e0/Evaluate/evaluation/evaluation.json"
Step = tuple[str, str, str, dict[str, Any]]
"""Role, action, resource in the table's short form, condition keys."""
CHAINS: dict[str, tuple[list[Step], list[int]]] = {
    # A step with any entry point under the processing role prints raw images' names to a log that engineers read.
    "A raw data by a step of one's own": ([DEFINE, PASS, START, READ_LOG], [0, 1]),
    # The same with a pipeline that is created, and the key of pseudonyms printed.
    "B the key of pseudonyms by a new pipeline": ([CREATE, PASS, START, READ_LOG], [0, 1]),
    # Code of one's own in script mode, stored under the name of reviewed code before that is.
    "C code under a reviewed name": (
        [("engineer", "s3:PutObject", "artefacts/bundles/0123456789abcdef.tar.gz", ONCE), START],
        [0],
    ),
    # A job of the evaluation's role that reaches S3 writes the evidence of another execution.
    "D evidence of another execution": (
        [
            DEFINE,
            START,
            ("pipeline", "sagemaker:CreateProcessingJob", "sagemaker:processing-job/pipelines-e1-evaluate", INSIDE),
            ("evaluation", "s3:PutObject", EVIDENCE, {}),
        ],
        [0, 2],
    ),
    # The champion's function, invoked with a location of one's own, counts test uses from 1 again.
    "E test uses from 1 again": (
        [DEFINE, ("engineer", "lambda:InvokeFunction", "lambda:function:medloop-champion", {})],
        [0, 1],
    ),
    # Who makes the key of pseudonyms knows it, and tries all names against the pseudonyms of a report.
    "F a key that one knows": ([("engineer", "s3:PutObject", "artefacts/keys/pseudonyms.key", ONCE), START], [0]),
    # An approver changes the container's image or model, and the entries that it would be compared with.
    "G another model by an approver": (
        [
            (
                "approver",
                "sagemaker:UpdateModelPackage",
                VERSION,
                {
                    "sagemaker:ModelApprovalStatus": "Approved",
                    f"sagemaker:CustomerMetadataProperties/{name}": "sha256:other",
                    f"sagemaker:CurrentCustomerMetadataProperties/{name}": "sha256:registered",
                },
            )
            for name in ("image", "model_digest", "artefact_digest", "endpoint")
        ],
        [0, 1, 2, 3],
    ),
    "H a job of one's own": (
        [
            ("engineer", "sagemaker:CreateProcessingJob", "sagemaker:processing-job/pipelines-e1-split", INSIDE),
            ("engineer", "iam:PassRole", "role:processing", TO_SAGEMAKER),
            READ_LOG,
        ],
        [0, 1],
    ),
    "I a start without a person's name": (
        [
            ("engineer", "states:StartExecution", "states:stateMachine:medloop-retraining", {}),
            ("engineer", "scheduler:CreateSchedule", "scheduler:schedule/default/medloop-x", {}),
            ("engineer", "sts:AssumeRole", "role:guard", {}),
        ],
        [0, 1, 2],
    ),
    "J a step's outputs by hand": (
        [START, ("engineer", "sagemaker:SendPipelineExecutionStepSuccess", EXECUTION, {})],
        [1],
    ),
    "K a publisher who runs what they wrote": (
        [
            ("publisher", "sagemaker:UpdatePipeline", PIPELINE, {}),
            ("publisher", "sagemaker:StartPipelineExecution", PIPELINE, {}),
            ("publisher", "sagemaker:RetryPipelineExecution", EXECUTION, {}),
            ("publisher", "logs:GetLogEvents", "logs:log-group:/aws/sagemaker/ProcessingJobs:log-stream:a", {}),
        ],
        [1, 2, 3],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_chain_is_broken(account: Account, name: str) -> None:
    """Each of the requests that must be denied is; the others are allowed, so that the chain is what it says."""
    steps, broken = CHAINS[name]
    decisions = [
        account.simulate(account.role(ROLES[who]), action, arn(account, resource), context(account, when))
        for who, action, resource, when in steps
    ]
    assert [number for number, decision in enumerate(decisions) if decision != "allowed"] == broken
