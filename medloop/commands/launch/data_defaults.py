"""Settings that follow from the data set of a run: its project's name, and what its model card says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.cloud.layout import project_of
from medloop.documents.file_names import CARD_FILE
from medloop.s3_uri import split_s3_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from medloop.data_card import DataCard
    from medloop.settings import DataDefaults


def data_defaults(data: str, *, is_project: bool = True, s3: S3Client | None = None) -> DataDefaults:
    """Return the settings that a data set implies.

    Args:
        data: A folder's path, or s3://bucket/prefix.
        is_project: False leaves the project's name out.
        s3: Reads the card of data on S3; None doesn't.

    Raises:
        SettingError: The card can't be used.
        TargetError: S3 can't be reached.
    """
    from medloop.data_card import read_data_card
    from medloop.settings import DataDefaults

    folder, card = None if data.startswith("s3://") else Path(data).expanduser().resolve(), None
    if folder and folder.is_dir():
        card = read_data_card(folder)
    elif s3 and not folder:
        card = _read_s3_card(s3, data)
    settings: dict[str, Any] = card.settings if card else {}
    if is_project:
        settings["project"] = project_of(str(folder or data))
    return DataDefaults(settings, f"--data {data}")


def _read_s3_card(s3: S3Client, data: str) -> DataCard | None:
    from botocore.exceptions import ClientError

    from medloop.data_card import MAX_BYTES, parse_data_card

    uri = f"{data.rstrip('/')}/{CARD_FILE}"
    bucket, key = split_s3_uri(uri)
    try:
        content = s3.get_object(Bucket=bucket, Key=key)["Body"].read(MAX_BYTES + 1)
    except ClientError as error:
        # S3 denies the access to what isn't there to those who may not list the bucket.
        if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket", "404", "403", "AccessDenied"):
            return None
        raise
    return parse_data_card(content, uri)
