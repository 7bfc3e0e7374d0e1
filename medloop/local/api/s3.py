"""S3's operations, as far as boto3's transfers, the SDK and medloop use them. Objects' metadata isn't kept."""

from __future__ import annotations

import datetime
import io
import re
import shutil
import uuid
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, BinaryIO, cast
from urllib.parse import unquote

from botocore.response import StreamingBody

from medloop.local.errors import ServiceError
from medloop.local.state.backend import Backend
from medloop.local.state.home import REGION
from medloop.local.state.store import Document
from medloop.local.state.stored_object import Object

_MAX_KEYS = 1000


def create_bucket(backend: Backend, params: Document) -> Document:
    """CreateBucket."""
    backend.objects.create_bucket(params["Bucket"])
    return {"Location": f"/{params['Bucket']}"}


def head_bucket(backend: Backend, params: Document) -> Document:
    """HeadBucket."""
    backend.objects.bucket(params["Bucket"])
    return {"BucketRegion": REGION}


def get_bucket_location(backend: Backend, params: Document) -> Document:
    """GetBucketLocation: us-east-1 is spelt as no constraint."""
    backend.objects.bucket(params["Bucket"])
    return {"LocationConstraint": None}


def put_object(backend: Backend, params: Document) -> Document:
    """PutObject, with `IfNoneMatch="*"`."""
    body = params.get("Body") or b""
    stream = body.encode() if isinstance(body, str) else body
    etag = backend.objects.put(params["Bucket"], params["Key"], stream, if_absent=params.get("IfNoneMatch") == "*")
    return {"ETag": f'"{etag}"'}


def head_object(backend: Backend, params: Document) -> Document:
    """HeadObject; as S3's, its error's code is 404."""
    try:
        item = backend.objects.head(params["Bucket"], params["Key"])
    except ServiceError as error:
        raise ServiceError(str(error.status), "Not Found", error.status) from error
    return _headers(backend, item, params)


def get_object(backend: Backend, params: Document) -> Document:
    """GetObject, with Range and IfMatch."""
    item = backend.objects.head(params["Bucket"], params["Key"])
    headers = _headers(backend, item, params)
    first, last = _range(params.get("Range"), item.size)
    file = item.path.open("rb")
    file.seek(first)
    if params.get("Range"):
        headers["ContentRange"] = f"bytes {first}-{last}/{item.size}"
    length = last - first + 1
    return {**headers, "ContentLength": length, "Body": StreamingBody(cast(Any, _Part(file, length)), length)}


def copy_object(backend: Backend, params: Document) -> Document:
    """CopyObject."""
    bucket, key = _source(params["CopySource"])
    with backend.objects.head(bucket, key).path.open("rb") as body:
        etag = backend.objects.put(params["Bucket"], params["Key"], body)
    modified = _time(backend.objects.head(params["Bucket"], params["Key"]).modified)
    return {"CopyObjectResult": {"ETag": f'"{etag}"', "LastModified": modified}}


def delete_object(backend: Backend, params: Document) -> Document:
    """DeleteObject."""
    backend.objects.delete(params["Bucket"], params["Key"])
    return {}


def delete_objects(backend: Backend, params: Document) -> Document:
    """DeleteObjects: each key by itself, with the errors listed."""
    response: Document = {"Deleted": [], "Errors": []}
    for item in params["Delete"]["Objects"]:
        try:
            backend.objects.delete(params["Bucket"], item["Key"])
            response["Deleted"].append({"Key": item["Key"]})
        except ServiceError as error:
            response["Errors"].append({"Key": item["Key"], "Code": error.code, "Message": error.message})
    return {name: items for name, items in response.items() if items}


def list_objects_v1(backend: Backend, params: Document) -> Document:
    """ListObjects, the older form: the same list, with Marker and NextMarker."""
    response = list_objects(backend, {**params, "StartAfter": params.get("Marker")})
    token = response.pop("NextContinuationToken", None)
    del response["KeyCount"]
    return {**response, **({"NextMarker": token} if token else {})}


def list_objects(backend: Backend, params: Document) -> Document:
    """ListObjectsV2, with Prefix, Delimiter, MaxKeys, StartAfter; the ContinuationToken is the last key of a page."""
    prefix, delimiter = params.get("Prefix") or "", params.get("Delimiter") or ""
    after = params.get("ContinuationToken") or params.get("StartAfter") or ""
    count = min(params.get("MaxKeys", _MAX_KEYS), _MAX_KEYS)
    listing = (params["Bucket"], prefix, delimiter)
    rows = backend.objects.paused_listings.pop((*listing, after), None)
    if rows is None or "ContinuationToken" not in params:
        rows = _rows(backend.objects.walk(params["Bucket"], prefix, after), prefix, delimiter, after)
    listed = list(islice(rows, count))
    following = next(rows, None) if count > 0 else None
    more = following is not None
    objects = [row for row in listed if isinstance(row, Object)]
    etags = backend.objects.etags(objects)
    response: Document = {
        "Name": params["Bucket"],
        "Prefix": prefix,
        "Delimiter": delimiter or None,
        "MaxKeys": count,
        "KeyCount": len(listed),
        "IsTruncated": more,
        "Contents": [_content(item, etags[item.key]) for item in objects],
        "CommonPrefixes": [{"Prefix": row} for row in listed if isinstance(row, str)],
    }
    if more:
        last = listed[-1]
        token = response["NextContinuationToken"] = last if isinstance(last, str) else last.key
        # Another page then doesn't read the folders from their beginning again.
        backend.objects.paused_listings = {(*listing, token): chain([following], rows)}
    # As over the wire: what is empty is absent.
    return {name: value for name, value in response.items() if value not in ([], None)}


def _rows(objects: Iterator[Object], prefix: str, delimiter: str, after: str) -> Iterator[Object | str]:
    """The rows of a listing: objects, and each common prefix once, in order, after a key or a common prefix."""
    last = after
    for item in objects:
        end = item.key.find(delimiter, len(prefix)) if delimiter else -1
        name = item.key if end < 0 else item.key[: end + len(delimiter)]
        if name.encode() <= last.encode():
            continue
        last = name
        yield item if end < 0 else name


def create_upload(backend: Backend, params: Document) -> Document:
    """CreateMultipartUpload."""
    backend.objects.path(params["Bucket"], params["Key"])
    identifier = uuid.uuid4().hex
    backend.home.folder("uploads", identifier)
    return {"Bucket": params["Bucket"], "Key": params["Key"], "UploadId": identifier}


def upload_part(backend: Backend, params: Document) -> Document:
    """UploadPart."""
    body = params.get("Body") or b""
    stream: BinaryIO = io.BytesIO(body) if isinstance(body, bytes | bytearray) else body
    part = _upload(backend, params) / f"{params['PartNumber']:05d}"
    temporary = part.with_suffix(f".{uuid.uuid4().hex}")
    with temporary.open("xb") as file:
        shutil.copyfileobj(stream, file)
    temporary.replace(part)
    return {"ETag": f'"{part.stat().st_size}-{params["PartNumber"]}"'}


def complete_upload(backend: Backend, params: Document) -> Document:
    """CompleteMultipartUpload: the parts become one object at once."""
    folder = _upload(backend, params)
    numbers = [part["PartNumber"] for part in params.get("MultipartUpload", {}).get("Parts", [])]
    parts = [folder / f"{number:05d}" for number in numbers]
    if not parts or numbers != sorted(set(numbers)) or not all(part.is_file() for part in parts):
        raise ServiceError("InvalidPart", "One or more of the specified parts could not be found, or are out of order.")
    etag = backend.objects.put(params["Bucket"], params["Key"], cast(BinaryIO, _Joined(parts)))
    shutil.rmtree(folder, ignore_errors=True)
    return {"Bucket": params["Bucket"], "Key": params["Key"], "ETag": f'"{etag}"'}


def abort_upload(backend: Backend, params: Document) -> Document:
    """AbortMultipartUpload."""
    shutil.rmtree(_upload(backend, params), ignore_errors=True)
    return {}


class _Part:
    """A file's next bytes, no more than a range has."""

    def __init__(self, file: IO[bytes], length: int) -> None:
        self.file = file
        self.left = length

    def read(self, amount: int | None = None) -> bytes:
        data = self.file.read(self.left if amount is None or amount < 0 else min(amount, self.left))
        self.left -= len(data)
        return data

    def close(self) -> None:
        self.file.close()


class _Joined:
    """Several files read as one."""

    def __init__(self, parts: list[Path]) -> None:
        self.parts = iter(parts)
        self.file: IO[bytes] = io.BytesIO()

    def read(self, amount: int) -> bytes:
        data = self.file.read(amount)
        while not data:
            self.file.close()
            part = next(self.parts, None)
            if part is None:
                return b""
            self.file = part.open("rb")
            data = self.file.read(amount)
        return data


def _headers(backend: Backend, item: Object, params: Document) -> Document:
    etag = backend.objects.etags([item])[item.key]
    if params.get("IfMatch", etag).strip('"') != etag:
        raise ServiceError("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
    return {
        "ETag": f'"{etag}"',
        "ContentLength": item.size,
        "LastModified": _time(item.modified),
        "ContentType": "binary/octet-stream",
        "AcceptRanges": "bytes",
        "Metadata": {},
    }


def _content(item: Object, etag: str) -> Document:
    return {
        "Key": item.key,
        "LastModified": _time(item.modified),
        "ETag": f'"{etag}"',
        "Size": item.size,
        "StorageClass": "STANDARD",
    }


def _range(text: str | None, size: int) -> tuple[int, int]:
    """First and last byte of a Range header; all of the object without one."""
    if not text:
        return 0, size - 1
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if match is None or not (match[1] or match[2]):
        return 0, size - 1
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first >= size or first > last:
        raise ServiceError("InvalidRange", "The requested range is not satisfiable", 416)
    return first, last


def _source(source: str | Document) -> tuple[str, str]:
    if isinstance(source, dict):
        return source["Bucket"], source["Key"]
    bucket, _, key = unquote(source).lstrip("/").partition("/")
    return bucket, key


def _upload(backend: Backend, params: Document) -> Path:
    folder: Path = backend.home.root / "uploads" / params["UploadId"]
    if not re.fullmatch(r"[0-9a-f]{32}", params["UploadId"]) or not folder.is_dir():
        raise ServiceError("NoSuchUpload", "The specified multipart upload does not exist.", 404)
    return folder


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
