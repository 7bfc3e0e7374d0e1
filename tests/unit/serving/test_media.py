"""What a request holds, and which answer it accepts."""

from __future__ import annotations

import pytest

from medloop.documents.split import Task
from medloop.imaging.formats import FORMATS
from medloop.serving.media import JSON, find_format, negotiate
from medloop.serving.service import RefusalError
from tests.unit.serving.worlds import nifti, npy, png

NIFTI, NPY = "application/x-nifti", "application/x-npy"


def name_of(body: bytes, declared: str, task: Task) -> str:
    """The name of a body's format."""
    return find_format(body, declared, task, FORMATS[task]).name


@pytest.mark.parametrize("declared", ["", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_recognised_by_the_first_bytes(declared: str) -> None:
    """Where Content-Type says nothing of use."""
    assert name_of(png(), declared, "classification") == "PNG"
    assert name_of(png(form="JPEG"), declared, "classification") == "JPEG"
    assert name_of(npy([[0.5]]), declared, "classification") == "npy"
    for content in (nifti(), nifti(compressed=False)):
        assert name_of(content, declared, "segmentation") == "NIfTI"


def test_header_and_bytes_agree() -> None:
    """Parameters and case of a media type don't matter."""
    assert name_of(png(), "Image/PNG; name=x", "classification") == "PNG"
    assert name_of(nifti(), "application/gzip", "segmentation") == "NIfTI"


@pytest.mark.parametrize(
    ("body", "declared", "task", "status", "message"),
    [
        (b"", "image/png", "classification", 400, "empty"),
        (png(), "image/jpeg", "classification", 415, "Content-Type says JPEG, the first bytes say PNG"),
        (png(), "application/dicom", "classification", 415, "image/png or image/jpeg"),
        (png(), "", "segmentation", 415, "the body is PNG"),
        (png(), "image/png", "segmentation", 415, "application/x-nifti"),
        (nifti(), "", "classification", 415, "the body is NIfTI"),
        (b"DOE^JANE", "", "classification", 415, "no file of a known format"),
    ],
)
def test_refused(body: bytes, declared: str, task: str, status: int, message: str) -> None:
    """With a reason that repeats nothing of the body."""
    with pytest.raises(RefusalError, match=message) as caught:
        name_of(body, declared, task)  # type: ignore[arg-type]
    assert caught.value.status == status
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", NIFTI),
        ("*/*", NIFTI),
        ("application/*", NIFTI),
        ("application/json", JSON),
        ("application/x-nifti;q=0.5, application/json", JSON),
        ("application/x-npy, application/json;q=0.9", NPY),
        ("text/csv, */*;q=0.1", NIFTI),
        ("application/x-nifti;q=0, */*", JSON),
    ],
)
def test_the_form_that_is_liked_best(accept: str, form: str) -> None:
    """By quality and specificity; the server's order decides among equals."""
    assert negotiate(accept, [NIFTI, JSON, NPY]) == form


@pytest.mark.parametrize("accept", ["text/csv", "*/*;q=0", "application/json;q=much", ";;;", "application/json;q=nan"])
def test_nothing_acceptable(accept: str) -> None:
    """406, with what there is."""
    with pytest.raises(RefusalError, match="application/json") as caught:
        negotiate(accept, [JSON])
    assert caught.value.status == 406
