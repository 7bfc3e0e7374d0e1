"""The versions that a candidate is compared with (the newest and oldest Approved one), and the uses of its test set.

Runs as a function (containers/champion) with the clients that it is given. Standard library only: the function's
runtime brings boto3 and nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medloop.documents.champion import (
    CLASSES_DIGEST,
    NO_VERSION,
    ChampionRequest,
    ChampionResponse,
    digest_of_classes,
)
from medloop.documents.file_names import SPLIT_FILE
from medloop.documents.json_text import MAX_BYTES, parse_json
from medloop.errors import DataError, TargetError, UserError
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient

DIGEST_LENGTH = 40
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


@dataclass(frozen=True)
class ApprovedVersion:
    """A version that a candidate can be compared with."""

    arn: str
    model: str
    """s3:// URI of its model.tar.gz."""
    classes_digest: str | None = None
    """Digest of the classes that it was trained for; None for a version that was registered without it."""

    def is_comparable(self, candidate: str, classes_digest: str | None) -> bool:
        """True if it is another model than the candidate, and as far as is recorded for the same classes."""
        unknown = None in (self.classes_digest, classes_digest)
        return self.model != candidate and (unknown or self.classes_digest == classes_digest)


def respond(event: Mapping[str, Any], sagemaker: SageMakerClient, s3: S3Client) -> dict[str, str]:
    """Find the versions to compare with, and record that the test set is used for this candidate.

    Args:
        event: `ChampionRequest`'s fields.
        sagemaker: SageMaker client.
        s3: S3 client.

    Returns:
        `ChampionResponse`'s fields.

    Raises:
        SettingError: An input is missing.
        DataError: split.json can't be used, or an Approved version has no artefact in S3.
        TargetError: The group can't be listed.
        UserError: `split` or `uses` is no S3 URI.
    """
    request = ChampionRequest.read(event)
    split = _read_split(s3, request.split)
    classes = _classes_digest(split)
    approved = approved_versions(sagemaker, request.group)
    no_version = ApprovedVersion(NO_VERSION, request.none)
    champion = find_champion(sagemaker, approved, request.model, classes) or no_version
    first = _first_comparable(sagemaker, approved, request.model, classes) or no_version
    if first == champion:
        first = no_version
    for version in {champion, first} - {no_version}:
        _require_artefact(s3, version)
    uses = count_use(s3, request.uses, digests_of_test(split), request.model)
    return vars(ChampionResponse(champion.arn, champion.model, first.arn, first.model, str(uses)))


def approved_versions(sagemaker: SageMakerClient, group: str) -> list[str]:
    """The ARNs of the group's Approved versions, oldest first.

    A version's number is never given twice, so the highest number is the newest version, whenever it was approved.

    Raises:
        TargetError: The group can't be listed.
    """
    request: dict[str, Any] = {"ModelPackageGroupName": group, "ModelApprovalStatus": "Approved", "MaxResults": 100}
    try:
        pages = sagemaker.get_paginator("list_model_packages").paginate(**request)
        summaries = [summary for page in pages for summary in page["ModelPackageSummaryList"]]
    except Exception as error:
        if _code(error) is None:
            raise
        raise TargetError(f"model group {group}: can't be listed ({error}); upsert the pipeline again") from error
    summaries.sort(key=lambda summary: int(summary["ModelPackageVersion"]))
    return [str(summary["ModelPackageArn"]) for summary in summaries]


def find_champion(
    sagemaker: SageMakerClient, approved: Sequence[str], candidate: str, classes_digest: str | None
) -> ApprovedVersion | None:
    """The champion: the newest Approved version for the candidate's classes whose artefact isn't the candidate's.

    A run that changed nothing gives the artefact of its champion again, so it meets the champion before that one.

    Args:
        sagemaker: SageMaker client.
        approved: `approved_versions` of the candidate's group.
        candidate: URI of the candidate's artefact.
        classes_digest: Digest of the candidate's classes; None for a version that was registered without it.

    Raises:
        DataError: A version that is newer than the champion names no artefact.
    """
    return _first_comparable(sagemaker, reversed(approved), candidate, classes_digest)


def _first_comparable(
    sagemaker: SageMakerClient, arns: Iterable[str], candidate: str, classes_digest: str | None
) -> ApprovedVersion | None:
    """The first of the versions that the candidate can be compared with; those after it aren't requested."""
    versions = (_version(sagemaker, arn) for arn in arns)
    return next((version for version in versions if version.is_comparable(candidate, classes_digest)), None)


def _classes_digest(split: Mapping[str, Any]) -> str | None:
    classes = split.get("classes")
    return (
        digest_of_classes(classes) if isinstance(classes, list) and all(isinstance(c, str) for c in classes) else None
    )


def digests_of_test(split: Mapping[str, Any]) -> list[str]:
    """The digest that names a test set, and the one under which earlier versions recorded its uses.

    The digest is over the images' content: renamed or relabelled, they are the same test set, and other images under
    the same names are another one. The earlier digest is over names: SHA-256 over the sorted cases, each with its
    patient's pseudonym. It is left out if only files' names distinguish patients and splits: other data may share them.

    Raises:
        DataError: split.json names no test case.
    """
    try:
        cases = [
            [pseudonym, case["path"]]
            for pseudonym, patient in split["patients"].items()
            for case in patient["cases"]
            if case["split"] == "test"
        ]
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{SPLIT_FILE}: patients: are not as the split step writes them; run it again") from None
    if not cases:
        raise DataError(f"{SPLIT_FILE}: names no test case; run the split step again")
    by_names = hashlib.sha256(json.dumps(sorted(cases)).encode()).hexdigest()[:DIGEST_LENGTH]
    by_content = str(split.get("test_digest") or "")[:DIGEST_LENGTH]
    if not by_content:  # Written by a version before 2 of split.json.
        return [by_names]
    ambiguous = split.get("presplit") and split.get("identifiers") == "none"
    return [by_content] if ambiguous else [by_content, by_names]


def count_use(s3: S3Client, uses: str, digests: Sequence[str], candidate: str) -> int:
    """Record that a test set is used for a candidate, once; the number of its record among those of the test set.

    Records of earlier versions, under the second digest, count first; none is added to them.

    Records are numbered, and the first writer of an object takes its number: a candidate's number never changes, though
    the bucket's clock (whole seconds) can't tell which of two came first.

    Args:
        s3: S3 client.
        uses: s3:// folder of the records.
        digests: `digests_of_test`.
        candidate: URI of the candidate's artefact.
    """
    bucket, folder = split_s3_uri(f"{uses.rstrip('/')}/")
    body = json.dumps({"candidate": candidate}).encode()
    earlier = [record for digest in digests[1:] for record in _records(s3, bucket, f"{folder}{digest}/")]
    if body in earlier:
        return earlier.index(body) + 1
    for number in itertools.count(1):
        key = f"{folder}{digests[0]}/{number:06d}"
        if _write_new(s3, bucket, key, body) or s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body:
            return len(earlier) + number
    raise AssertionError("numbers never end")


def _records(s3: S3Client, bucket: str, folder: str) -> list[bytes]:
    """The records of a folder in their order."""
    records: list[bytes] = []
    try:
        while True:
            key = f"{folder}{len(records) + 1:06d}"
            records.append(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    except Exception as error:
        if _code(error) not in _ABSENT:
            raise
    return records


def _write_new(s3: S3Client, bucket: str, key: str, body: bytes) -> bool:
    """Write an object unless its key is taken; True if it was free."""
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        return True
    except Exception as error:
        if _code(error) not in _TAKEN:
            raise
        return False


def _version(sagemaker: SageMakerClient, arn: str) -> ApprovedVersion:
    """An Approved version.

    Raises:
        DataError: It names no artefact.
    """
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    model = artefact_of(package)
    if not model:
        raise DataError(f"{arn}: is Approved and names no model.tar.gz; reject it, or approve a version that has one")
    return ApprovedVersion(arn, model, package.get("CustomerMetadataProperties", {}).get(CLASSES_DIGEST))


def artefact_of(package: Mapping[str, Any]) -> str | None:
    """The s3:// URI of a version's model.tar.gz, as DescribeModelPackage gives it; None where it names none."""
    containers = package.get("InferenceSpecification", {}).get("Containers") or [{}]
    model = containers[0].get("ModelDataUrl")
    return None if model is None else str(model)


def _require_artefact(s3: S3Client, version: ApprovedVersion) -> None:
    try:
        bucket, key = split_s3_uri(version.model)
    except UserError:
        key = ""
    if not key:
        fix = "reject it, or approve a version that has one"
        raise DataError(f"{version.arn}: is Approved and its artefact {version.model!r} is no file in S3; {fix}")
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except Exception as error:
        if _code(error) not in _ABSENT:
            raise
        fix = "restore it, or reject the version"
        raise DataError(f"{version.arn}: is Approved and its artefact {version.model} is gone; {fix}") from None


def _read_split(s3: S3Client, folder: str) -> dict[str, Any]:
    bucket, key = split_s3_uri(f"{folder.rstrip('/')}/{SPLIT_FILE}")
    try:
        document = parse_json(s3.get_object(Bucket=bucket, Key=key)["Body"].read(MAX_BYTES + 1))
    except ValueError:
        raise DataError(f"s3://{bucket}/{key}: is no JSON; run the split step again") from None
    except Exception as error:
        if _code(error) not in _ABSENT:
            raise
        raise DataError(f"s3://{bucket}/{key}: is absent; run the split step again") from None
    if not isinstance(document, dict):
        raise DataError(f"s3://{bucket}/{key}: is no split.json; run the split step again")
    return document


def _code(error: Exception) -> str | None:
    """A client error's code; None for any other error. botocore isn't imported for it."""
    response: Any = getattr(error, "response", None)
    return str(response["Error"].get("Code")) if isinstance(response, dict) and "Error" in response else None
