"""Lambda functions as records."""

from __future__ import annotations

import base64
import hashlib
import re

from medloop.local.errors import ServiceError
from medloop.local.state.home import ACCOUNT, REGION, now
from medloop.local.state.store import Document, Table, Transaction

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ARN = re.compile(rf"arn:aws:lambda:{REGION}:{ACCOUNT}:function:([A-Za-z0-9_-]+)")


def arn(name: str) -> str:
    """The ARN of the local account's function of that name."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def name_of(name_or_arn: str) -> str:
    """A function's name out of its name or ARN.

    Raises:
        ServiceError: It is neither.
    """
    match = _ARN.fullmatch(name_or_arn)
    name = match[1] if match else name_or_arn
    if not _NAME.fullmatch(name):
        raise ServiceError("ValidationException", f"'{name_or_arn}' at 'functionName' is no function of this account")
    return name


def create(write: Transaction, request: Document, code: bytes) -> Document:
    """Record a new function whose code (a bundle, tar.gz) is at Code.S3Bucket and Code.S3Key.

    Raises:
        ServiceError: ResourceConflictException when the name is taken.
    """
    name = name_of(request["FunctionName"])
    if write.get(Table.FUNCTIONS, name):
        raise ServiceError("ResourceConflictException", f"Function already exist: {name}", 409)
    recorded = ("Description", "Handler", "Role", "Runtime", "MemorySize", "Environment")
    document = {key: request[key] for key in recorded if key in request}
    document |= {"FunctionName": name, "FunctionArn": arn(name), "Timeout": request.get("Timeout", 3)}
    document |= {"Version": "$LATEST", "PackageType": "Zip", "State": "Active", **_code(request["Code"], code)}
    write.put(Table.FUNCTIONS, name, document)
    return document


def read(transaction: Transaction, name_or_arn: str) -> Document:
    """A function's record. Raises ServiceError ResourceNotFoundException when there is none."""
    name = name_of(name_or_arn)
    absent = ServiceError("ResourceNotFoundException", f"Function not found: {arn(name)}", 404)
    return transaction.require(Table.FUNCTIONS, name, absent)


def update_code(write: Transaction, request: Document, code: bytes) -> Document:
    """Record another code of a function.

    Raises:
        ServiceError: ResourceNotFoundException: there is no such function.
    """
    document = read(write, request["FunctionName"]) | _code(request, code)
    write.put(Table.FUNCTIONS, document["FunctionName"], document)
    return document


def _code(location: Document, code: bytes) -> Document:
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    uri = f"s3://{location['S3Bucket']}/{location['S3Key']}"
    return {"CodeSha256": digest, "CodeSize": len(code), "LastModified": now(), "_code": uri}
