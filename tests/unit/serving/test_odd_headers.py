"""The endpoint reads odd NIfTI headers as the data set's check does, or refuses them with the same line."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi.testclient import TestClient

from medloop.imaging.files import FileError, InMemory, Volume
from medloop.imaging.nifti import read_nifti
from tests.unit.imaging.niftis import AFFINE, VOXELS, make_file, make_header
from tests.unit.imaging.test_nifti_readers import ROWS, Row
from tests.unit.serving.test_predictions import RESIZE
from tests.unit.serving.worlds import client, volume_service


@pytest.fixture(scope="module")
def caller() -> TestClient:
    """An endpoint that segments bright voxels of volumes of any voxel size."""
    return client(volume_service(RESIZE))


def read(content: bytes) -> tuple[Volume | None, str]:
    """The volume that the check reads, or its reason to refuse."""
    try:
        return read_nifti(InMemory("img.nii", content)), ""
    except FileError as error:
        return None, error.reason


def labels_of(caller: TestClient, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Label map and affine of a response."""
    response = caller.post("/invocations", content=content)
    assert response.status_code == 200, response.text
    volume = read_nifti(InMemory("map.nii.gz", response.content))
    return volume.voxels, volume.affine


@ROWS
def test_the_same_reading_or_the_same_line(row: Row, caller: TestClient) -> None:
    """A map is on the file's grid, and equal to a sound file's of equal voxels; a refusal is a 400 with the reason."""
    content = row.make(make_header(**row.fields))
    volume, reason = read(content)
    if volume is None:
        response = caller.post("/invocations", content=content)
        assert response.status_code == 400
        assert reason in response.json()["error"]
        return
    labels, affine = labels_of(caller, content)
    np.testing.assert_array_equal(affine, volume.affine)
    if np.array_equal(row.voxels, VOXELS) and np.array_equal(row.affine, AFFINE):
        np.testing.assert_array_equal(labels, labels_of(caller, make_file(make_header()))[0])
