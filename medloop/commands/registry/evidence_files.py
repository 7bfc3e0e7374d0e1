"""The files behind a version (evaluation.json and report.html), and whether they are those that were registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medloop.commands.objects import digest_of, sibling
from medloop.commands.registry.versions import package_evaluation_uri
from medloop.documents.file_names import EVALUATION_FILE, REPORT_FILE
from medloop.documents.metadata import decode
from medloop.errors import UserError
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from medloop.cloud.target import Target


@dataclass(frozen=True)
class EvidenceFile:
    """A file of the evidence.

    Args:
        name: `evaluation.json` or `report.html`.
        uri: Its location; "" if the version names none.
        recorded: The digest that was registered; "" where none was.
        content: None where it can't be read.
        modified: The time at which it was last written.
        error: The reason why it can't be read.
    """

    name: str
    uri: str
    recorded: str
    content: bytes | None = None
    modified: datetime | None = None
    error: str = ""

    @property
    def digest(self) -> str | None:
        """The digest of the current content; None if it can't be read."""
        return None if self.content is None else digest_of(self.content)

    @property
    def state(self) -> str:
        """The result of the digest's check, as text."""
        if self.content is None:
            return f"can't be read ({self.error})"
        if not self.recorded:
            return "no digest was registered"
        return "digest holds" if self.digest == self.recorded else f"changed: {self.digest} now, {self.recorded} then"

    def require(self) -> bytes:
        """The content, which must be there and be what was registered.

        Raises:
            UserError: It isn't.
        """
        if self.content is None:
            raise UserError(f"{self.name}: can't be read ({self.error}); {RUN_AGAIN}")
        if not self.recorded:
            raise UserError(f"{self.name}: the version names no digest of it, so its origin is unknown; {RUN_AGAIN}")
        if self.digest != self.recorded:
            raise UserError(
                f"{self.uri}: has the digest {self.digest}, and {self.recorded} was registered: it was changed since; "
                "restore the file that was registered, or run the pipeline again"
            )
        return self.content


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
    return EvidenceFile(name, uri, str(recorded or ""), response["Body"].read(), response.get("LastModified"))
