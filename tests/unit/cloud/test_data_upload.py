"""Uploads of data sets: DataVersion follows the content, not ETags, which KMS changes for the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from medloop.cloud.data_upload import upload_data
from medloop.errors import DataError, UserError
from medloop.input_data import data_version

URI = "s3://data/raw/segmentation/spleen/"


class KmsBucket:
    """S3 with SSE-KMS: an ETag is new at each upload, and a clock ticks at each."""

    def __init__(self) -> None:
        """Begin empty."""
        self.objects: dict[str, dict[str, Any]] = {}
        self.num_uploads = 0

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803 (the service's words)
        """Store an object."""
        assert Bucket == "data"
        self.num_uploads += 1
        modified = datetime(2026, 11, 30, tzinfo=UTC) + timedelta(seconds=self.num_uploads)
        etag = f'"{self.num_uploads:032x}"'
        self.objects[Key] = {"Key": Key, "Size": len(Body), "ETag": etag, "LastModified": modified}

    def upload_file(self, file: str, bucket: str, key: str) -> None:
        """Store a file."""
        self.put_object(bucket, key, Path(file).read_bytes())

    def get_paginator(self, name: str) -> Any:
        """List objects in one page."""
        assert name == "list_objects_v2"
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803
        """Return the page."""
        assert Bucket == "data"
        return [{"Contents": [item for key, item in sorted(self.objects.items()) if key.startswith(Prefix)]}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of two subjects, with a card and a hidden file."""
    for name, content in (
        ("s1/img.nii.gz", b"one"),
        ("s2/img.nii.gz", b"two"),
        ("model-card.yaml", b"population: adults"),
        (".DS_Store", b"x"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_equal_files_keep_their_version(folder: Path) -> None:
    """Uploaded again, to the same prefix or another, after a changed card too; the manifest comes last."""
    bucket = KmsBucket()
    first = upload_data(bucket, folder, URI)
    assert (first.num_files, first.num_bytes, first.by_content) == (3, 6, True)
    (folder / "model-card.yaml").write_text("population: children")
    again = upload_data(bucket, folder, URI)
    assert again.version == first.version == data_version(bucket, URI)
    assert upload_data(bucket, folder, "s3://data/copy").version == first.version
    newest = max(bucket.objects.values(), key=lambda item: item["LastModified"])
    assert newest["Key"] == "copy/manifest.json"
    assert not any(".DS_Store" in key for key in bucket.objects)


def _change(folder: Path) -> None:
    (folder / "s1/img.nii.gz").write_bytes(b"eno")


def _rename(folder: Path) -> None:
    (folder / "s2").rename(folder / "s3")


def _add(folder: Path) -> None:
    (folder / "s2/label.nii.gz").write_bytes(b"l")


@pytest.mark.parametrize("change", [_change, _rename, _add])
def test_other_files_are_another_version(folder: Path, change: Callable[[Path], None]) -> None:
    """Content of the same size, a name, a further file."""
    first = upload_data(KmsBucket(), folder, URI)
    change(folder)
    assert upload_data(KmsBucket(), folder, URI).version != first.version


def test_what_was_changed_past_the_upload_is_seen(folder: Path) -> None:
    """An object that was replaced, added or deleted by other means: the note no longer counts."""
    bucket = KmsBucket()
    first = upload_data(bucket, folder, URI).version
    key = "raw/segmentation/spleen/s1/img.nii.gz"
    bucket.put_object("data", key, b"eno")
    assert data_version(bucket, URI) != first
    assert upload_data(bucket, folder, URI).version == first
    bucket.put_object("data", "raw/segmentation/spleen/s9/img.nii.gz", b"")
    assert data_version(bucket, URI) != first
    del bucket.objects["raw/segmentation/spleen/s9/img.nii.gz"]
    assert data_version(bucket, URI) == first
    del bucket.objects[key]
    assert data_version(bucket, URI) != first


def test_objects_of_others_below_the_prefix_are_reported(folder: Path) -> None:
    """The version then depends on ETags, as for any upload by other means."""
    bucket = KmsBucket()
    bucket.put_object("data", "raw/segmentation/spleen/old.nii.gz", b"old")
    assert not upload_data(bucket, folder, URI).by_content


def test_nothing_and_nowhere_are_refused(tmp_path: Path, folder: Path) -> None:
    """An empty folder, a bucket without prefix, another scheme."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no files"):
        upload_data(KmsBucket(), tmp_path / "empty", URI)
    with pytest.raises(UserError, match="is a whole bucket"):
        upload_data(KmsBucket(), folder, "s3://data/")
