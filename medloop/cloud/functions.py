"""Lambda functions that a pipeline's steps invoke."""

from __future__ import annotations

import base64
import hashlib

from botocore.exceptions import ClientError

from medloop.bundle import load_container
from medloop.cloud.sessions import Target
from medloop.definition.read import read_definition
from medloop.errors import TargetError

RUNTIME = "python3.13"
TIMEOUT_SECONDS = 120
_ABSENT = "ResourceNotFoundException"


def put_function(target: Target, container: str) -> str:
    """Make the function of a container whose bundle is in the bucket, or give it the bundle's code; its ARN.

    Raises:
        ClientError: The target refuses.
    """
    client = target.boto.client("lambda")
    bundle = target.bundle(container)
    place = {"S3Bucket": target.bucket, "S3Key": bundle.key}
    arn = target.function_arn(container)
    try:
        present = client.get_function(FunctionName=arn)["Configuration"]["CodeSha256"]
    except ClientError as error:
        if error.response["Error"]["Code"] != _ABSENT:
            raise
        try:
            client.create_function(
                FunctionName=arn.rpartition(":")[2],
                Runtime=RUNTIME,
                Role=target.role_arn,
                Handler=load_container(container).entry_point.removesuffix(".py") + ".handler",
                Timeout=TIMEOUT_SECONDS,
                Code=place,
            )
            return arn
        except ClientError as race:
            if race.response["Error"]["Code"] != "ResourceConflictException":
                raise
            present = ""
    if present != base64.b64encode(hashlib.sha256(bundle.data).digest()).decode():
        client.update_function_code(FunctionName=arn, **place)
    return arn


def require_functions(target: Target, definition: str) -> None:
    """See that every function is there that a definition's Lambda steps invoke.

    Raises:
        TargetError: One is absent, or belongs to another account.
    """
    client = target.boto.client("lambda")
    arns = {str(step.document["FunctionArn"]) for step in read_definition(definition).steps if step.type == "Lambda"}
    for arn in sorted(arns):
        try:
            client.get_function(FunctionName=arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != _ABSENT:
                raise
            mend = "deploy infra, or set champion.lambda_arn to the function's ARN"
            raise TargetError(f"target {target.name}: the function {arn} does not exist; {mend}") from None
