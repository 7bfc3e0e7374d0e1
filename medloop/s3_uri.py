"""S3 URIs: the one parser. Standard library only: functions in the account use it too."""

from __future__ import annotations

from medloop.errors import UserError

_SCHEME = "s3://"


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; the key may be empty.

    Raises:
        UserError: It is no S3 URI.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or not bucket:
        raise UserError(f"{uri!r} is not an S3 URI; write s3://bucket/key")
    return bucket, key
