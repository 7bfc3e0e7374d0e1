"""S3 as files: keys, listings, transfers, and folders registered by reference, all through boto3."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from medloop.errors import DataError
from medloop.local.state.home import BUCKET, Home
from medloop.local.state.objects import reference


def keys(s3: Any, **request: Any) -> list[str]:
    """All keys of a listing, page by page."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, **request)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def code(call: Any, **request: Any) -> str:
    """The error code that a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call(**request)
    return str(caught.value.response["Error"]["Code"])


def put(s3: Any, *names: str) -> None:
    """Store objects whose content is their key."""
    for name in names:
        s3.put_object(Bucket=BUCKET, Key=name, Body=name.encode())


@pytest.mark.parametrize(("home", "file"), [(0o700, 0o600), (0o755, 0o600), (0o2770, 0o660)])
def test_the_pseudonyms_key_is_private(local: Any, home: int, file: int) -> None:
    """Readable by its owner, and by those who share the home: with it names can be tried."""
    local.home.mkdir()
    local.home.chmod(home)
    put(local.s3, "keys/pseudonyms.key")
    path = local.home / "s3" / BUCKET / "keys" / "pseudonyms.key"
    assert stat.S_IMODE(path.stat().st_mode) == file
    assert local.s3.get_object(Bucket=BUCKET, Key="keys/pseudonyms.key")["Body"].read() == b"keys/pseudonyms.key"


def test_object_comes_back_as_it_was_stored(local: Any) -> None:
    """Content, size and MD5 ETag of an object, under a key with a space and letters beyond ASCII."""
    stored = local.s3.put_object(Bucket=BUCKET, Key="a b/é ü.txt", Body=b"hello")
    response = local.s3.get_object(Bucket=BUCKET, Key="a b/é ü.txt")
    assert response["Body"].read() == b"hello"
    assert response["ETag"] == stored["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert local.s3.head_object(Bucket=BUCKET, Key="a b/é ü.txt")["ContentLength"] == 5
    assert keys(local.s3, Prefix="a b/é") == ["a b/é ü.txt"]


def test_range_gives_the_requested_bytes(local: Any) -> None:
    """A Range is answered with those bytes alone; one beyond the object is refused."""
    put(local.s3, "0123456789")
    part = local.s3.get_object(Bucket=BUCKET, Key="0123456789", Range="bytes=2-4")
    assert (part["Body"].read(), part["ContentRange"]) == (b"234", "bytes 2-4/10")
    assert local.s3.get_object(Bucket=BUCKET, Key="0123456789", Range="bytes=-3")["Body"].read() == b"789"
    assert code(local.s3.get_object, Bucket=BUCKET, Key="0123456789", Range="bytes=10-") == "InvalidRange"


def test_prefix_is_a_prefix_of_keys_not_a_folder(local: Any) -> None:
    """`a/b` matches `a/b/c` and `a/bc` alike; `a/b/` matches the first only."""
    put(local.s3, "a/b/c", "a/bc", "a/x", "ab")
    assert keys(local.s3, Prefix="a/b") == ["a/b/c", "a/bc"]
    assert keys(local.s3, Prefix="a/b/") == ["a/b/c"]
    assert keys(local.s3, Prefix="a") == ["a/b/c", "a/bc", "a/x", "ab"]
    assert keys(local.s3, Prefix="none/such") == []


def test_listing_is_in_the_order_of_key_bytes_across_pages(local: Any) -> None:
    """Pages of two give all keys once, in S3's order, which is not the order of folders."""
    names = ["a-b", "a/b", "a.b", "é", "z", "B"]
    put(local.s3, *names)
    assert keys(local.s3, PaginationConfig={"PageSize": 2}) == sorted(names, key=str.encode)


def test_delimiter_folds_keys_into_common_prefixes_across_pages(local: Any) -> None:
    """Each common prefix is listed once, even where pages end within it."""
    put(local.s3, "a/1", "a/2", "b", "c/1", "c/2", "d")
    pages = local.s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    rows = [
        [item["Key"] for item in page.get("Contents", [])] + [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        for page in pages
    ]
    assert [row for row in rows if row] == [["a/"], ["b"], ["c/"], ["d"]]


def test_resource_interface_lists_too(local: Any) -> None:
    """The older ListObjects, which boto3's bucket resource uses, gives the same keys."""
    put(local.s3, "m/1", "m/2")
    bucket = local.boto.resource("s3").Bucket(BUCKET)
    assert [item.key for item in bucket.objects.filter(Prefix="m/").page_size(1)] == ["m/1", "m/2"]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "a//b", "./a", "/etc/passwd", "a/", "nul\0"])
def test_key_never_leaves_the_bucket(local: Any, key: str) -> None:
    """Keys that would be another path are refused, for writing and reading."""
    assert code(local.s3.put_object, Bucket=BUCKET, Key=key, Body=b"") == "InvalidRequest"
    assert code(local.s3.get_object, Bucket=BUCKET, Key=key) == "InvalidRequest"


@pytest.mark.parametrize("bucket", ["no-such-bucket", "..", "tmp"])
def test_unknown_bucket_is_refused(local: Any, bucket: str) -> None:
    """Only buckets that were made exist; a bucket's name isn't a path."""
    with pytest.raises(Exception, match=r"bucket|Bucket"):
        local.s3.put_object(Bucket=bucket, Key="a", Body=b"")


def test_bucket_can_be_made_and_found(local: Any) -> None:
    """CreateBucket, HeadBucket and GetBucketLocation."""
    local.s3.create_bucket(Bucket="my-own")
    local.s3.head_bucket(Bucket="my-own")
    assert local.s3.get_bucket_location(Bucket="my-own")["LocationConstraint"] is None
    local.s3.put_object(Bucket="my-own", Key="a", Body=b"1")
    assert keys(local.s3) == []


def test_missing_object_is_refused_as_s3_does(local: Any) -> None:
    """NoSuchKey for GetObject, the bare 404 for HeadObject."""
    assert code(local.s3.get_object, Bucket=BUCKET, Key="none") == "NoSuchKey"
    assert code(local.s3.head_object, Bucket=BUCKET, Key="none") == "404"


def test_object_below_another_object_is_refused(local: Any) -> None:
    """What a file system can't hold is said, never half done."""
    put(local.s3, "a/b")
    assert code(local.s3.put_object, Bucket=BUCKET, Key="a/b/c", Body=b"") == "InvalidRequest"
    assert code(local.s3.put_object, Bucket=BUCKET, Key="a", Body=b"") == "InvalidRequest"
    assert keys(local.s3) == ["a/b"]


def test_conditional_put_makes_an_object_once(local: Any) -> None:
    """IfNoneMatch='*' refuses to replace."""
    local.s3.put_object(Bucket=BUCKET, Key="once", Body=b"1", IfNoneMatch="*")
    assert code(local.s3.put_object, Bucket=BUCKET, Key="once", Body=b"2", IfNoneMatch="*") == "PreconditionFailed"
    assert local.read(f"s3://{BUCKET}/once") == b"1"


def test_copy_and_delete(local: Any) -> None:
    """CopyObject copies; DeleteObject(s) delete, and what is gone already counts as deleted."""
    put(local.s3, "a/é 1")
    local.s3.copy_object(Bucket=BUCKET, Key="b/2", CopySource={"Bucket": BUCKET, "Key": "a/é 1"})
    assert local.read(f"s3://{BUCKET}/b/2") == "a/é 1".encode()
    local.s3.delete_object(Bucket=BUCKET, Key="a/é 1")
    deleted = local.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "b/2"}, {"Key": "gone"}]})
    assert [item["Key"] for item in deleted["Deleted"]] == ["b/2", "gone"]
    assert keys(local.s3) == []
    assert not list((local.home / "s3" / BUCKET).iterdir())


def test_large_upload_in_parts_comes_back_in_one_piece(local: Any, tmp_path: Path) -> None:
    """A transfer above 8 MB goes up in parallel parts and comes down by ranges, unchanged."""
    data = os.urandom(9 * 1024 * 1024 + 7)
    source, target = tmp_path / "up", tmp_path / "down"
    source.write_bytes(data)
    parts = TransferConfig(multipart_threshold=8 * 1024 * 1024, multipart_chunksize=5 * 1024 * 1024)
    local.s3.upload_file(str(source), BUCKET, "big", Config=parts)
    local.s3.download_file(BUCKET, "big", str(target), Config=parts)
    assert target.read_bytes() == data
    assert not list((local.home / "uploads").iterdir())


def test_upload_can_be_aborted_and_needs_its_parts(local: Any) -> None:
    """A part that never came, and an upload that was aborted, are refused."""
    upload = local.s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
    request = {"Bucket": BUCKET, "Key": "k", "UploadId": upload}
    parts = {"Parts": [{"PartNumber": 1, "ETag": "x"}]}
    assert code(local.s3.complete_multipart_upload, **request, MultipartUpload=parts) == "InvalidPart"
    local.s3.abort_multipart_upload(**request)
    assert code(local.s3.upload_part, **request, PartNumber=1, Body=b"1") == "NoSuchUpload"


def test_referenced_folder_is_read_in_place(local: Any, tmp_path: Path) -> None:
    """A user's folder appears as objects, changes with the files, and keeps one URI."""
    folder = tmp_path / "Mes données (à moi)"
    (folder / "benign").mkdir(parents=True)
    (folder / "benign" / "a b.png").write_bytes(b"1")
    uri = reference(Home.find(local.home), folder)
    assert uri.startswith(f"s3://{BUCKET}/data/mes-donnees-a-moi-")
    assert uri == reference(Home.find(local.home), folder)
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    assert keys(local.s3, Prefix=prefix) == [f"{prefix}/benign/a b.png"]
    first = local.s3.head_object(Bucket=BUCKET, Key=f"{prefix}/benign/a b.png")["ETag"]
    (folder / "benign" / "a b.png").write_bytes(b"2")
    assert local.s3.head_object(Bucket=BUCKET, Key=f"{prefix}/benign/a b.png")["ETag"] != first
    assert local.read(f"{uri}/benign/a b.png") == b"2"


def test_notes_of_an_import_are_no_objects(local: Any, tmp_path: Path) -> None:
    """They name source files, which jobs don't see, and change with each import, which DataVersion doesn't."""
    (tmp_path / "data" / ".medloop-import").mkdir(parents=True)
    (tmp_path / "data" / ".medloop-import" / "report.json").write_text("Doe/1.dcm")
    (tmp_path / "data" / "a.png").write_bytes(b"1")
    prefix = reference(Home.find(local.home), tmp_path / "data").removeprefix(f"s3://{BUCKET}/")
    assert keys(local.s3, Prefix=prefix) == [f"{prefix}/a.png"]


def test_referenced_folder_is_never_written(local: Any, tmp_path: Path) -> None:
    """Every writing call below a reference is refused, and the folder stays as it is."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    prefix = reference(Home.find(local.home), folder).removeprefix(f"s3://{BUCKET}/")
    for key in (f"{prefix}/a", f"{prefix}/new", prefix):
        assert code(local.s3.put_object, Bucket=BUCKET, Key=key, Body=b"") == "AccessDenied"
        assert code(local.s3.delete_object, Bucket=BUCKET, Key=key) == "AccessDenied"
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("a", b"1")]


def test_reference_to_a_folder_that_holds_the_home_or_a_circle_ends(local: Any) -> None:
    """The home isn't data, and links in a circle are followed once."""
    folder = local.home.parent
    (folder / "a").write_bytes(b"1")
    (folder / "circle").symlink_to(folder)
    prefix = reference(Home.find(local.home), folder).removeprefix(f"s3://{BUCKET}/")
    assert keys(local.s3, Prefix=prefix) == [f"{prefix}/a"]


def test_reference_needs_a_folder(local: Any, tmp_path: Path) -> None:
    """A path that is no folder is a user's error that names it."""
    with pytest.raises(DataError, match="no-such"):
        reference(Home.find(local.home), tmp_path / "no-such")


def test_body_may_be_a_stream(local: Any) -> None:
    """A file-like body is stored whole, and an empty one is an empty object."""
    local.s3.put_object(Bucket=BUCKET, Key="stream", Body=io.BytesIO(b"abc"))
    local.s3.put_object(Bucket=BUCKET, Key="empty")
    assert (local.read(f"s3://{BUCKET}/stream"), local.read(f"s3://{BUCKET}/empty")) == (b"abc", b"")


def test_reference_to_a_folder_with_a_name_that_is_no_key(local: Any, tmp_path: Path) -> None:
    """A name that is not in UTF-8 is refused in one line, wherever it is listed."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / os.fsdecode(b"M\xfcller.png")).write_bytes(b"x")
    prefix = reference(Home.find(local.home), tmp_path / "set").removeprefix(f"s3://{BUCKET}/")
    with pytest.raises(
        DataError, match=r"^M\\udcfcller.png: its name is not in UTF-8, and keys in S3 must be; rename it$"
    ):
        local.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
