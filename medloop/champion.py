"""Who a candidate is compared with (the newest and the oldest Approved version), and the uses of its test set.

Runs as a function (containers/champion) with clients that are handed in. Standard library only: the function's
runtime brings boto3 and nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from medloop.errors import DataError, SettingError, TargetError
from medloop.s3_uri import split_s3_uri

SPLIT_FILE = "split.json"
DIGEST_LENGTH = 40
NOBODY = "none"
"""The ARN of no version: an argument's text that no shell or service drops, as it might an empty one."""
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


@dataclass(frozen=True)
class Question:
    """What the pipeline's step asks, all of it text."""

    group: str
    """Model package group."""
    model: str
    """s3:// URI of the candidate's model.tar.gz."""
    split: str
    """s3:// folder that holds split.json."""
    none: str
    """s3:// folder that stands for a model where there is none."""
    uses: str
    """s3:// folder of the records of test sets' uses."""

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> Question:
        """Read the step's inputs.

        Raises:
            SettingError: One is missing or is no text.
        """
        names = tuple(cls.__dataclass_fields__)
        for name in names:
            if not isinstance(event.get(name), str) or not event[name]:
                raise SettingError(f"{name}: is missing among the step's inputs; upsert the pipeline again")
        return cls(**{name: event[name] for name in names})


@dataclass(frozen=True)
class Version:
    """A version that a candidate can be compared with."""

    arn: str
    model: str
    """s3:// URI of its model.tar.gz."""


def answer(event: Mapping[str, Any], sagemaker: Any, s3: Any) -> dict[str, str]:
    """Find the competitors, and record that the test set is used for this candidate.

    Args:
        event: `Question`'s fields.
        sagemaker: SageMaker client.
        s3: S3 client.

    Returns:
        champion_arn, champion_model: the newest Approved version; NOBODY and `none` where there is no other than the
        candidate itself. first_arn, first_model: the oldest one, where it is another than the champion. test_uses: how
        many candidates this test set was used for, this one included; the same however often it is asked.

    Raises:
        SettingError: An input is missing.
        DataError: split.json can't be used, or an Approved version has no artefact.
        TargetError: The group can't be listed.
    """
    question = Question.read(event)
    digest = digest_of_test(_read_split(s3, question.split))
    approved = approved_versions(sagemaker, question.group)
    nobody = Version(NOBODY, question.none)
    champion = _first_other(sagemaker, reversed(approved), question.model) or nobody
    first = _first_other(sagemaker, approved, question.model) or nobody
    if first == champion:
        first = nobody
    for version in {champion, first} - {nobody}:
        _require_artefact(s3, version)
    return {
        "champion_arn": champion.arn,
        "champion_model": champion.model,
        "first_arn": first.arn,
        "first_model": first.model,
        "test_uses": str(count_use(s3, question.uses, digest, question.model)),
    }


def approved_versions(sagemaker: Any, group: str) -> list[str]:
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


def _first_other(sagemaker: Any, arns: Iterable[str], candidate: str) -> Version | None:
    """The first of the versions whose artefact isn't the candidate's; none behind it is asked for.

    Raises:
        DataError: One of those asked for names no artefact.
    """
    found = (_version(sagemaker, arn) for arn in arns)
    return next((version for version in found if version.model != candidate), None)


def digest_of_test(split: Mapping[str, Any]) -> str:
    """What names a test set: SHA-256 over its sorted cases, each with its patient's pseudonym.

    The pseudonyms' key is one for all splits of a bucket, so the same images of the same patients give the same digest.

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
    return _digest(json.dumps(sorted(cases)))


def count_use(s3: Any, uses: str, test: str, candidate: str) -> int:
    """Record that a test set is used for a candidate, once; the number of its record among those of the test set.

    Records are numbered, and a number is taken by whoever writes its object first: so a candidate's number never
    changes, whatever the clock of the bucket (whole seconds) says of who came first.

    Args:
        s3: S3 client.
        uses: s3:// folder of the records.
        test: The test set's digest.
        candidate: URI of the candidate's artefact.
    """
    bucket, folder = split_s3_uri(f"{uses.rstrip('/')}/{test}/")
    body = json.dumps({"candidate": candidate}).encode()
    for number in itertools.count(1):
        place = {"Bucket": bucket, "Key": f"{folder}{number:06d}"}
        if _take(s3, place, body) or s3.get_object(**place)["Body"].read() == body:
            return number
    raise AssertionError("numbers never end")


def _take(s3: Any, place: Mapping[str, str], body: bytes) -> bool:
    """Write an object that isn't there yet; whether it wasn't."""
    try:
        s3.put_object(**place, Body=body, IfNoneMatch="*")
        return True
    except Exception as error:
        if _code(error) not in _TAKEN:
            raise
        return False


def _version(sagemaker: Any, arn: str) -> Version:
    package = sagemaker.describe_model_package(ModelPackageName=arn)
    containers = package.get("InferenceSpecification", {}).get("Containers") or [{}]
    model = containers[0].get("ModelDataUrl")
    if not model:
        raise DataError(f"{arn}: is Approved and names no model.tar.gz; reject it, or approve a version that has one")
    return Version(arn, str(model))


def _require_artefact(s3: Any, version: Version) -> None:
    bucket, key = split_s3_uri(version.model)
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except Exception as error:
        if _code(error) not in _ABSENT:
            raise
        mend = "restore it, or reject the version"
        raise DataError(f"{version.arn}: is Approved and its artefact {version.model} is gone; {mend}") from None


def _read_split(s3: Any, folder: str) -> dict[str, Any]:
    bucket, key = split_s3_uri(f"{folder.rstrip('/')}/{SPLIT_FILE}")
    try:
        document = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
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
    """A client error's code; None of any other error. botocore isn't imported for it."""
    response: Any = getattr(error, "response", None)
    return str(response["Error"].get("Code")) if isinstance(response, dict) and "Error" in response else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
