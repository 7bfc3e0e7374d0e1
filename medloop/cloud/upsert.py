"""Store a pipeline on a target: its code, the key of pseudonyms, the model group, and the definition.

Objects are named by their content or created once, so a second upsert changes nothing.
"""

from __future__ import annotations

import contextlib
import gc
import json
import secrets
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from medloop.bundle import load_container
from medloop.cloud.build_inputs import build_key
from medloop.cloud.definition_cache import cache_folder, recall, remember
from medloop.cloud.functions import put_function, require_functions
from medloop.cloud.images import find_digest
from medloop.cloud.layout import NO_MODEL_FILE, PSEUDONYM_KEY
from medloop.cloud.sessions import isolated
from medloop.cloud.target import Target
from medloop.definition.origin import Recorded, with_origin
from medloop.definition.validate import validate
from medloop.errors import SettingError, TargetError
from medloop.settings import Resolved

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker.type_defs import UpdatePipelineRequestTypeDef

KEY_BYTES = 32
_NO_MODEL = b"No version is Approved yet: there is no model to compare with.\n"
_PUBLISH = (
    "no published version equals what this checkout and these settings build, and this role may not publish: have the "
    "commit reviewed and published (`medloop pipelines upsert` with the publisher's role), or use a published commit "
    "and its settings (`medloop pipelines diff`)"
)
_ABSENT = {"404", "NoSuchKey", "NotFound", "ResourceNotFound", "ResourceNotFoundException"}


@dataclass(frozen=True)
class UpsertResult:
    """Result of an upsert."""

    arn: str
    action: str
    """created, updated or unchanged."""
    version: int | None
    """The definition's number among the pipeline's versions; None where the service doesn't tell it."""
    uploaded: tuple[str, ...]
    """Keys of the objects that were not there before."""


def build_definition(target: Target, resolved: Resolved) -> str:
    """The definition's JSON text, checked; touches nothing on the target.

    Raises:
        SettingError: The service would refuse the definition; the message names the step and the member.
    """
    return _build(target, resolved)[0]


def _build(target: Target, resolved: Resolved) -> tuple[str, Target]:
    """The checked definition, remembered or built, and the target with the code and objects that its steps refer to."""
    folder, key = cache_folder(), build_key(target, resolved)
    if folder is None or key is None:
        return _build_new(target, resolved)
    recorded = target.renewed()
    definition = recall(folder, key, recorded)
    if definition is None:
        definition, recorded = _build_new(target, resolved)
        remember(folder, key, definition, recorded)
    return definition, recorded


def _build_new(target: Target, resolved: Resolved) -> tuple[str, Target]:
    recorded = target.renewed()
    with isolated(target), _uncollected():
        definition = str(resolved.spec.build(resolved.settings, recorded).definition())
    if origin := _origin(resolved):
        definition = with_origin(definition, origin)
    if problems := validate(definition):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SettingError(f"pipeline {resolved.spec.name}: {problems[0]}{more}; fix the setting behind it")
    return definition, recorded


def _origin(resolved: Resolved) -> Recorded | None:
    """The record of a definition's settings; None for those that JSON doesn't give back, such as secrets."""
    settings = resolved.settings
    content = settings.model_dump(mode="json", exclude_unset=True)
    try:
        same = type(settings).model_validate(content) == settings
    except ValidationError:
        return None
    return Recorded(resolved.spec.name, content) if same else None


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: the SDK's import makes a million objects that stay, searched again and again.

    It saves a quarter of the seconds that a build takes.
    """
    was_on, imported = gc.isenabled(), "sagemaker.core.workflow.pipeline_context" in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if not imported:
            gc.freeze()  # nor are they searched later, the process's end included
        if was_on:
            gc.enable()


def upsert(target: Target, resolved: Resolved) -> UpsertResult:
    """Create the pipeline on the target, or update it where it differs.

    Raises:
        SettingError: The service would refuse the definition.
        TargetError: The target can't be reached, or refuses.
    """
    definition, target = _build(target, resolved)
    try:
        _check_images(target, definition)
        uploaded = [key for key, read_body in _objects(target) if _put_once(target, key, read_body)]
        uploaded += [PSEUDONYM_KEY] if ensure_pseudonym_key(target) else []
        _put_functions(target, definition)
        _ensure_group(target, resolved.group)
        arn, action, version = _put_pipeline(target, resolved.pipeline, definition)
    except (ClientError, BotoCoreError) as error:
        reason = f"target {target.name}: pipeline {resolved.pipeline} can't be stored: {error}"
        advice = f"; {_PUBLISH}" if isinstance(error, ClientError) and is_denied(error) else ""
        raise TargetError(reason + advice) from error
    return UpsertResult(arn, action, version, tuple(uploaded))


def stored_definition(target: Target, name: str) -> str | None:
    """The definition's JSON text as the target has it; None where it has no such pipeline.

    Raises:
        TargetError: The target can't be reached, or refuses.
    """
    try:
        return str(target.boto.client("sagemaker").describe_pipeline(PipelineName=name)["PipelineDefinition"])
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and (
            error.response["Error"]["Code"] in _ABSENT or _has_message(error, "does not exist", "could not find")
        ):
            return None
        raise TargetError(f"target {target.name}: pipeline {name} can't be read: {error}") from error


def _objects(target: Target) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Keys of the objects that a run needs, each with the function that makes its bytes: most are there already."""
    for bundle in target.bundles.values():
        yield bundle.key, partial(getattr, bundle, "data")
    for key, body in target.objects.items():
        yield key, partial(bytes, body)
    yield NO_MODEL_FILE, partial(bytes, _NO_MODEL)


def _put_functions(target: Target, definition: str) -> None:
    """Functions of the local backend are made of the bundles; those of an account are infra's, and must be there."""
    if target.name == "aws":
        require_functions(target, definition)
        return
    for container in target.bundles:
        if load_container(container).kind == "lambda":
            put_function(target, container)


def _put_once(target: Target, key: str, read_body: Callable[[], bytes]) -> bool:
    """Store an object unless it is there; the store itself decides between two who try at once."""
    s3 = target.boto.client("s3")
    try:
        s3.head_object(Bucket=target.bucket, Key=key)
        return False
    except ClientError as error:
        # Who may store an object, once, may not be allowed to read it: the key of pseudonyms.
        if error.response["Error"]["Code"] not in _ABSENT | {"403"}:
            raise
    try:
        s3.put_object(Bucket=target.bucket, Key=key, Body=read_body(), IfNoneMatch="*")
        return True
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise
        return False


def ensure_pseudonym_key(target: Target) -> bool:
    """Make the key of pseudonyms unless it is there; True if it was made.

    Raises:
        TargetError: It isn't there, and the caller may not make it.
    """
    try:
        return _put_once(target, PSEUDONYM_KEY, partial(secrets.token_bytes, KEY_BYTES))
    except ClientError as error:
        if not is_denied(error):
            raise
    listed = target.boto.client("s3").list_objects_v2(Bucket=target.bucket, Prefix=PSEUDONYM_KEY, MaxKeys=1)
    if not listed.get("KeyCount"):
        raise TargetError(
            f"target {target.name}: {PSEUDONYM_KEY} isn't there, and this role may not make it; `make images` does"
        )
    return False


def _ensure_group(target: Target, group: str) -> None:
    client = target.boto.client("sagemaker")
    try:
        client.describe_model_package_group(ModelPackageGroupName=group)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFound" and not _has_message(error, "does not exist"):
            raise
        try:
            client.create_model_package_group(ModelPackageGroupName=group)
        except ClientError as race:
            if not _has_message(race, "already exists"):
                raise


def _put_pipeline(target: Target, name: str, definition: str) -> tuple[str, str, int | None]:
    """The pipeline's ARN, what was done, and the definition's version.

    An equal definition is left alone: every update makes a version.
    """
    client = target.boto.client("sagemaker")
    request: UpdatePipelineRequestTypeDef = {
        "PipelineName": name,
        "PipelineDefinition": definition,
        "RoleArn": target.role_arn,
    }
    try:
        arn = client.create_pipeline(**request, ClientRequestToken=str(uuid.uuid4()))["PipelineArn"]
        return arn, "created", _find_version(client, name, definition)
    except ClientError as error:
        if not _has_message(error, "must be unique", "already exists"):
            raise
    present = client.describe_pipeline(PipelineName=name)
    same = json.loads(present["PipelineDefinition"]) == json.loads(definition)
    if same and present.get("RoleArn") == target.role_arn:
        return str(present["PipelineArn"]), "unchanged", _find_version(client, name, definition)
    updated = client.update_pipeline(**request)
    return str(updated["PipelineArn"]), "updated", updated.get("PipelineVersionId")


def _find_version(client: SageMakerClient, name: str, definition: str) -> int | None:
    """The newest version of a pipeline that has this definition; someone else may have put another one since.

    None where it isn't among the newest ten, or the account lets its caller not list them.
    """
    try:
        listed = client.list_pipeline_versions(PipelineName=name, SortOrder="Descending", MaxResults=10)
        for number in (int(version["PipelineVersionId"]) for version in listed["PipelineVersionSummaries"]):
            present = client.describe_pipeline(PipelineName=name, PipelineVersionId=number)
            if json.loads(present["PipelineDefinition"]) == json.loads(definition):
                return number
    except ClientError as error:
        if not is_denied(error):
            raise
    return None


def _check_images(target: Target, definition: str) -> None:
    """On AWS jobs run images, and an execution without its image fails only after minutes: refuse here.

    Only images that the definition names are needed: script mode trains in SageMaker's own.
    """
    if target.name != "aws":
        return
    for container in target.bundles:
        named = any(f"/medloop-{container}{end}" in definition for end in ":@")
        if named and find_digest(target, container) is None:
            fix = f"`medloop images push {container}` builds and pushes it"
            raise TargetError(f"target aws: no image of containers/{container} as it is now; {fix}")


def is_denied(error: ClientError) -> bool:
    """True if the caller lacks the right."""
    return "AccessDenied" in error.response["Error"]["Code"]


def _has_message(error: ClientError, *phrases: str) -> bool:
    message = str(error.response["Error"].get("Message", "")).lower()
    return any(phrase in message for phrase in phrases)
