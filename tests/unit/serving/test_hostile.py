"""The response to any request is a prediction or a 4xx with a reason: no 500, no crash, no memory beyond bounds."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.unit.serving.worlds import ball, client, image_service, nifti, npy, png, volume_service

IMAGES = [png(), png(form="JPEG"), npy(np.zeros((4, 4), np.uint8)), png(np.zeros((9, 9, 4), np.uint8))]
VOLUMES = [nifti(), nifti(compressed=False), nifti(kind=nib.Nifti2Image, compressed=False), npy(ball())]
SPACING = {"x-amzn-sagemaker-custom-attributes": "spacing=1,1,2"}
PATIENCE = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def require_sound(caller: TestClient, body: bytes, **headers: str) -> int:
    """Send a request; the response is complete."""
    response = caller.post("/invocations", content=body, headers={**SPACING, **headers})
    assert response.status_code in {200, 400, 406, 413, 415}
    if response.status_code != 200:
        reason = response.json()["error"]
        assert reason
        assert "\n" not in reason
    return response.status_code


def damage(body: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    """Overwrite bytes, counted from the front or, beyond half, anywhere; then cut the end off."""
    damaged = bytearray(body)
    for offset, value in edits:
        damaged[offset % len(damaged)] = value
    return bytes(damaged[: len(damaged) - cut % len(damaged)])


EDITS = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=12)
CUTS = st.one_of(st.just(0), st.integers(0, 10_000))


@pytest.mark.slow
@PATIENCE
@given(st.sampled_from(IMAGES), EDITS, CUTS)
def test_damaged_images(body: bytes, edits: list[tuple[int, int]], cut: int) -> None:
    """Bytes changed anywhere, ends cut off."""
    require_sound(client(image_service()), damage(body, edits, cut))


@pytest.mark.slow
@PATIENCE
@given(st.sampled_from(VOLUMES), EDITS, CUTS)
def test_damaged_volumes(body: bytes, edits: list[tuple[int, int]], cut: int) -> None:
    """Headers' numbers above all: shapes, types, scales, affines."""
    require_sound(client(volume_service()), damage(body, edits, cut))


@pytest.mark.slow
@PATIENCE
@given(EDITS, st.booleans())
def test_damaged_headers_in_sound_compression(edits: list[tuple[int, int]], second: bool) -> None:
    """So that the damage gets past gzip's checksum."""
    content = damage(nifti(compressed=False, kind=nib.Nifti2Image if second else nib.Nifti1Image), edits, 0)
    require_sound(client(volume_service()), gzip.compress(content))


@pytest.mark.slow
@PATIENCE
@given(st.binary(max_size=400), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_anything(body: bytes, kind: str, accept: str, attributes: str) -> None:
    """Any bytes under any headers."""
    texts = (text.encode("ascii", "ignore").decode() for text in (kind, accept, attributes))
    values = ["".join(sign for sign in text if sign.isprintable()).strip() for text in texts]
    names = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
    headers = dict(zip(names, values, strict=True))
    for service in (image_service(), volume_service()):
        require_sound(client(service), body, **headers)


def huge_png(edge: int) -> bytes:
    """A PNG whose header promises edge x edge pixels."""
    content = bytearray(png())
    content[16:24] = struct.pack(">II", edge, edge)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def text_bomb() -> bytes:
    """A PNG with a compressed text of 100 MB."""
    content = png()
    chunk = b"zTXt" + b"Comment\0\0" + zlib.compress(bytes(10**8), 9)
    return (
        content[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    )


def volume_bomb() -> bytes:
    """A volume with 100 MB after its voxels."""
    return gzip.compress(nifti(compressed=False) + bytes(100_000_000), 1)


def promising_header(*dims: int) -> bytes:
    """A NIfTI-2 header of a large volume, and no voxels."""
    header = nib.Nifti2Header()
    header["dim"] = [3, *dims, 1, 1, 1, 1]
    header["pixdim"][1:4] = 1
    header.set_data_dtype(np.uint8)
    header.set_data_offset(544)
    return bytes(header.binaryblock) + bytes(4)


def steep() -> bytes:
    """A NIfTI whose scale takes its voxels beyond float32."""
    content = bytearray(nifti(compressed=False))
    content[112:116] = struct.pack("<f", 3e38)  # scl_slope
    return bytes(content)


def animation() -> bytes:
    """An APNG of two frames."""
    file = io.BytesIO()
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    frames[0].save(file, format="PNG", save_all=True, append_images=frames[1:])
    return file.getvalue()


Body = bytes | Callable[[], bytes]
"""A request's body, or a function that makes it: a bomb takes too long for the collection of tests."""


def made(body: Body) -> bytes:
    """The body."""
    return body if isinstance(body, bytes) else body()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (huge_png(101), 413),
        (huge_png(10**5), 413),
        (huge_png(2**31 - 1), 413),
        (huge_png(90), 400),
        (text_bomb, 200),
        (animation(), 400),
        (png()[:200], 400),
        (npy(np.zeros((101, 101), np.uint8)), 413),
        (npy(np.array([["x"]], dtype=object), allow_pickle=True), 400),
        (npy(np.full((4, 4), np.nan)), 400),
    ],
)
def test_hostile_images(body: Body, status: int) -> None:
    """Bombs are refused by their headers, damage by name, within 30 MB; texts of a PNG are never unpacked."""
    caller, content = client(image_service()), made(body)
    tracemalloc.start()
    try:
        assert require_sound(caller, content) == status
        assert tracemalloc.get_traced_memory()[1] < 30e6 + len(content)
    finally:
        tracemalloc.stop()


SHEARED = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=float)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (promising_header(10**4, 10**4, 10**4), 413),
        (promising_header(2**40, 2**40, 2**40), 413),
        (promising_header(40, 40, 40), 400),
        (volume_bomb, 400),
        (lambda: gzip.compress(bytes(10**8)), 400),
        (nifti(affine=np.diag([5.0, 5.0, 5.0, 1.0])), 413),
        (nifti(affine=np.diag([1e3, 1e3, 1e3, 1.0])), 400),
        (nifti(affine=np.diag([1e18, 1e18, 1e18, 1.0])), 400),
        (nifti(affine=np.diag([1e200, 1e200, 1e200, 1.0]), kind=nib.Nifti2Image), 400),
        (nifti(affine=np.diag([1e-30, 1.0, 1.0, 1.0])), 200),
        (nifti(affine=SHEARED), 400),
        (nifti(np.full((4, 4, 4), np.nan, np.float32)), 400),
        (nifti(np.ones((4, 4, 4), np.float32)), 400),
        (nifti(ball()[:, :, 0]), 400),
        (nifti(np.stack([ball(), ball()], axis=-1)), 400),
        (nifti(ball()[:2, :1, :1] * np.array([1, 2], np.int16)[:, None, None]), 200),
        (nifti(np.zeros((4, 4, 4), np.complex64)), 400),
        (steep(), 400),
        (nifti()[:150], 400),
        (nifti()[:-4] + b"\0\0\0\0", 400),
        (npy(np.zeros((400, 400, 400), np.uint8)[::8, ::8, ::8]), 413),
    ],
)
def test_hostile_volumes(body: Body, status: int) -> None:
    """Bombs of every layer, and geometries that can't be; within 30 MB."""
    caller, content = client(volume_service()), made(body)
    tracemalloc.start()
    try:
        assert require_sound(caller, content) == status
        assert tracemalloc.get_traced_memory()[1] < 30e6 + len(content)
    finally:
        tracemalloc.stop()


def test_values_that_overflow() -> None:
    """Voxels at the end of float32 give a prediction or a refusal, never a map of nothing that looks like an answer."""
    voxels = np.where(ball() > 100, 3e38, -3e38).astype(np.float32)
    rule = volume_service().predictor.preprocessing
    zscore = rule.model_copy(update={"intensity": rule.intensity.model_copy(update={"rule": "zscore"})})
    assert require_sound(client(volume_service()), nifti(voxels)) == 200
    assert require_sound(client(volume_service(zscore)), nifti(voxels)) == 400
