"""STS's and IAM's operations, which know the local account's one role."""

from __future__ import annotations

import datetime
import json

from medloop.local.errors import ServiceError
from medloop.local.state.backend import Backend
from medloop.local.state.home import ROLE_ARN, ROLE_NAME
from medloop.local.state.model_packages import caller
from medloop.local.state.store import Document


def get_caller_identity(backend: Backend, params: Document) -> Document:
    """GetCallerIdentity: the user of this process."""
    return caller()


def get_role(backend: Backend, params: Document) -> Document:
    """GetRole: the local role, which SageMaker may assume."""
    if params["RoleName"] != ROLE_NAME:
        raise ServiceError("NoSuchEntity", f"The role with name {params['RoleName']} cannot be found.", 404)
    services = {"Service": ["sagemaker.amazonaws.com"]}
    statement = {"Effect": "Allow", "Principal": services, "Action": "sts:AssumeRole"}
    return {
        "Role": {
            "Path": "/",
            "RoleName": ROLE_NAME,
            "RoleId": "AROALOCAL",
            "Arn": ROLE_ARN,
            "CreateDate": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
            "AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        }
    }
