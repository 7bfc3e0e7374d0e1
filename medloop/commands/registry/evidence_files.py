"""The files behind a version (evaluation, report and model), and whether they are those that were registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medloop.champion import artefact_of
from medloop.commands.objects import digest_of, sibling
from medloop.commands.registry.versions import name_of, package_evaluation_uri
from medloop.documents.artefact import ARTEFACT_DIGEST, changed_image, digest_of_stream, recorded_digest
from medloop.documents.file_names import ARCHIVE_FILE, EVALUATION_FILE, REPORT_FILE
from medloop.documents.metadata import decode
from medloop.errors import UserError
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from medloop.cloud.target import Target


@dataclass(frozen=True)
class RegisteredFile:
    """A file that a version names, and its digest.

    Args:
        name: `evaluation.json`, `report.html` or `model.tar.gz`.
        uri: Its location; "" if the version names none.
        recorded: The digest that was registered; "" where none was.
        digest: The digest of the current content; None if it wasn't or can't be read.
        modified: The time at which it was last written.
        error: The reason why it can't be read; "" if it can.
    """

    name: str
    uri: str
    recorded: str
    digest: str | None = None
    modified: datetime | None = None
    error: str = ""

    @property
    def is_denied(self) -> bool:
        """True if it may be there, and the caller may not read it."""
        return self.error.endswith("AccessDenied")

    @property
    def state(self) -> str:
        """The result of the digest's check, as text."""
        if self.error:
            return f"can't be read ({self.error})"
        if not self.recorded:
            return "no digest was registered"
        return "digest holds" if self.digest == self.recorded else f"changed: {self.digest} now, {self.recorded} then"

    def require_unchanged(self) -> None:
        """Check that the file is there and is what was registered.

        Raises:
            UserError: It isn't.
        """
        if self.error:
            raise UserError(f"{self.name}: can't be read ({self.error}); {RUN_AGAIN}")
        if not self.recorded:
            raise UserError(f"{self.name}: the version names no digest of it, so its origin is unknown; {RUN_AGAIN}")
        if self.digest != self.recorded:
            raise UserError(
                f"{self.uri}: has the digest {self.digest}, and {self.recorded} was registered: it was changed since; "
                "restore the file that was registered, or run the pipeline again"
            )


@dataclass(frozen=True)
class EvidenceFile(RegisteredFile):
    """A file of the evidence, with its content; None where it can't be read."""

    content: bytes | None = None

    def require(self) -> bytes:
        """The content, which must be there and be what was registered.

        Raises:
            UserError: It isn't.
        """
        self.require_unchanged()
        return self.content or b""


RUN_AGAIN = "run the pipeline again: it registers a new version, with its evidence"


def read_evaluation_file(target: Target, package: Mapping[str, Any]) -> EvidenceFile:
    """evaluation.json; ModelMetrics contains its digest."""
    statistics = package.get("ModelMetrics", {}).get("ModelQuality", {}).get("Statistics", {})
    return _read(target, EVALUATION_FILE, package_evaluation_uri(dict(package)), statistics.get("ContentDigest"))


def read_report_file(target: Target, package: Mapping[str, Any]) -> EvidenceFile:
    """report.html, in the same folder; the metadata contains its digest."""
    uri = package_evaluation_uri(dict(package))
    recorded = decode(str((package.get("CustomerMetadataProperties") or {}).get("report_digest", "")))
    return _read(target, REPORT_FILE, sibling(uri, REPORT_FILE) if uri else None, recorded)


def read_artefact(target: Target, package: Mapping[str, Any]) -> RegisteredFile:
    """model.tar.gz; the metadata contains its digest. Without one the file, which may be large, isn't read."""
    from botocore.exceptions import BotoCoreError, ClientError

    uri, recorded = artefact_of(package) or "", recorded_digest(package, ARTEFACT_DIGEST)
    if not uri:
        return RegisteredFile(ARCHIVE_FILE, "", recorded, error="the version names none")
    try:
        bucket, key = split_s3_uri(uri)
        response = target.boto.client("s3").get_object(Bucket=bucket, Key=key)
        digest = digest_of_stream(response["Body"]) if recorded else None
    except ClientError as error:
        return RegisteredFile(ARCHIVE_FILE, uri, recorded, error=f"{uri}: {code_of(error)}")
    except (BotoCoreError, UserError) as error:
        return RegisteredFile(ARCHIVE_FILE, uri, recorded, error=f"{uri}: {error}")
    return RegisteredFile(ARCHIVE_FILE, uri, recorded, digest, response.get("LastModified"))


def check_artefact(target: Target, package: Mapping[str, Any], *, readable: bool = True) -> str:
    """Check that a version's model and serving image are those that were registered.

    Args:
        target: The version's target.
        package: DescribeModelPackage's response.
        readable: False: the caller may lack the right to read the model, whose containers check it too.

    Returns:
        A warning in one line if the model wasn't checked; "" if it was.

    Raises:
        UserError: One of them was changed, or the model is gone.
    """
    name = name_of(package)
    if changed := changed_image(package):
        raise UserError(f"{name}: {changed}; restore the version's InferenceSpecification, or run the pipeline again")
    recorded, evaluated = recorded_digest(package, ARTEFACT_DIGEST), _evaluated_digest(target, package)
    if evaluated and evaluated != recorded:
        raise UserError(
            f"{name}: its metadata name {recorded or 'no digest'} as {ARTEFACT_DIGEST}, and {evaluated} was evaluated: "
            f"they were changed since; {RUN_AGAIN}"
        )
    if not recorded:
        return not_checked(package)
    artefact = read_artefact(target, package)
    if not readable and artefact.is_denied:
        return f"{artefact.uri}: can't be read here (AccessDenied); the model is checked by its containers only"
    artefact.require_unchanged()
    return ""


def not_checked(package: Mapping[str, Any]) -> str:
    """A warning for a version that was registered without its model's digest; "" for any other."""
    if recorded_digest(package, ARTEFACT_DIGEST):
        return ""
    return f"{name_of(package)} was registered before digests of models; its model is not checked"


def _evaluated_digest(target: Target, package: Mapping[str, Any]) -> str:
    """The model's digest in evaluation.json, whose own digest can't be changed; "" if that file proves nothing."""
    from medloop.documents.evaluation import Evaluation

    file = read_evaluation_file(target, package)
    if file.content is None or file.digest != file.recorded:
        return ""
    return Evaluation.parse(file.content, file.uri).data.artefact_digest


def modified_at(target: Target, uri: str) -> datetime:
    """The time at which an object was last written, without reading it.

    Raises:
        UserError: There is no such object, or it may not be seen.
    """
    from botocore.exceptions import ClientError

    bucket, key = split_s3_uri(uri)
    try:
        modified: datetime = target.boto.client("s3").head_object(Bucket=bucket, Key=key)["LastModified"]
    except ClientError as error:
        raise UserError(f"{uri}: can't be read ({code_of(error)}), so its age is unknown") from None
    return modified


def code_of(error: ClientError) -> str:
    """A refusal in the service's own word."""
    return str(error.response.get("Error", {}).get("Code", "unknown error"))


def _read(target: Target, name: str, uri: str | None, recorded: Any) -> EvidenceFile:
    from botocore.exceptions import ClientError

    if not uri:
        return EvidenceFile(name, "", "", error="the version names no evaluation")
    bucket, key = split_s3_uri(uri)
    try:
        response = target.boto.client("s3").get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        return EvidenceFile(name, uri, str(recorded or ""), error=f"{uri}: {code_of(error)}")
    content = response["Body"].read()
    digest, modified = digest_of(content), response.get("LastModified")
    return EvidenceFile(name, uri, str(recorded or ""), digest, modified, content=content)
