"""Lambda functions that a pipeline's steps invoke."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from medloop.bundle import load_container
from medloop.definition.read import read_definition
from medloop.errors import TargetError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import FunctionCodeTypeDef

    from medloop.cloud.target import Target

RUNTIME: Final = "python3.13"
TIMEOUT_SECONDS = 120
_ABSENT = "ResourceNotFoundException"


def put_function(target: Target, container: str) -> str:
    """Make the function of a container whose bundle is in the bucket, or give it the bundle's code; its ARN.

    Raises:
        ClientError: The target refuses.
    """
    client = target.boto.client("lambda")
    bundle, arn = target.bundle(container), target.function_arn(container)
    present = _code_digest(client, arn)
    if present is None and _create(target, container, {"S3Bucket": target.bucket, "S3Key": bundle.key}):
        return arn
    if present != base64.b64encode(hashlib.sha256(bundle.data).digest()).decode():
        client.update_function_code(FunctionName=arn, S3Bucket=target.bucket, S3Key=bundle.key)
    return arn


def _code_digest(client: LambdaClient, arn: str) -> str | None:
    """The digest of a function's code, None where there is no such function."""
    try:
        return client.get_function(FunctionName=arn)["Configuration"]["CodeSha256"]
    except ClientError as error:
        if error.response["Error"]["Code"] != _ABSENT:
            raise
        return None


def _create(target: Target, container: str, code: FunctionCodeTypeDef) -> bool:
    """Make the function; False where someone else was faster."""
    try:
        target.boto.client("lambda").create_function(
            FunctionName=target.function_arn(container).rpartition(":")[2],
            Runtime=RUNTIME,
            Role=target.role_arn,
            Handler=load_container(container).entry_point.removesuffix(".py") + ".handler",
            Timeout=TIMEOUT_SECONDS,
            Code=code,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceConflictException":
            raise
        return False
    return True


def require_functions(target: Target, definition: str) -> None:
    """See that every function is there that a definition's Lambda steps invoke.

    Raises:
        TargetError: One is absent, or belongs to another account.
    """
    client = target.boto.client("lambda")
    documents = [step.document for step in read_definition(definition).steps]
    arns = {str(document["FunctionArn"]) for document in documents if "FunctionArn" in document}
    for arn in sorted(arns):
        if _code_digest(client, arn) is None:
            fix = "deploy infra, or set champion.lambda_arn to the function's ARN"
            raise TargetError(f"target {target.name}: the function {arn} does not exist; {fix}")
