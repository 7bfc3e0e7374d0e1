"""A segmentation model behind `/invocations`: a label map on the volume's own grid, and the size of its structures."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medloop.documents.model import ModelRecord, Triple
from medloop.imaging.formats import InMemory, TooLargeError
from medloop.imaging.nifti import gzip_bytes, labels_on_grid, read_unit
from medloop.imaging.npy import read_npy_volume
from medloop.imaging.segment_predictor import VolumePredictor
from medloop.imaging.validation import require_contrast
from medloop.imaging.volumes import Volume, read_volume, target_shape, to_ras
from medloop.serving.media import JSON, NIFTI, NPY, choose, kind_of
from medloop.serving.refusals import RefusalError
from medloop.serving.service import BODY, Answer, Inquiry, as_json, describe
from medloop.serving.settings import ServeSettings

MILLILITRES = 1e-3
"""Of a cube whose edge is one mm."""
MAX_ATTRIBUTES = 1024
"""Characters of X-Amzn-SageMaker-Custom-Attributes, by InvokeEndpoint's reference."""
MAX_NIFTI1_EDGE = 32767


@dataclass(frozen=True)
class Scan:
    """A volume as it was sent.

    Attributes:
        volume: Voxels and affine.
        unit: Of the affine's lengths: `mm`, or `unknown` where nobody said.
        source: The NIfTI content; None where the volume came as a bare array.
    """

    volume: Volume
    unit: str
    source: InMemory | None


@dataclass(frozen=True)
class VolumeService:
    """A segmentation model that answers requests."""

    predictor: VolumePredictor
    settings: ServeSettings

    @property
    def record(self) -> ModelRecord:
        """model.json."""
        return self.predictor.record

    def answer(self, inquiry: Inquiry) -> Answer:
        """A label map (the default), or a summary as JSON; with a map, the summary's volumes go in a header."""
        form = choose(inquiry.accept, [NIFTI, JSON, NPY])
        scan = self._read(inquiry)
        self._require_grid(scan.volume)
        labels = self.predictor.segment_volume(scan.volume, inquiry.proceed).labels
        summary = summarise(scan, labels, self.record)
        if form == JSON:
            return Answer(as_json(summary), JSON)
        body = _as_npy(labels) if form == NPY else _as_nifti(scan, labels)
        return Answer(body, form, _in_header(summary))

    def _read(self, inquiry: Inquiry) -> Scan:
        kind = kind_of(inquiry.body, inquiry.content_type, "segmentation")
        source = InMemory(BODY, inquiry.body)
        if kind == "nifti":
            scan = Scan(read_volume(source, self.settings.max_voxels), read_unit(source), source)
        else:
            scan = self._read_array(source, read_spacing(inquiry.attributes))
        require_contrast(source, scan.volume.voxels)
        return scan

    def _read_array(self, source: InMemory, spacing: Triple | None) -> Scan:
        """A bare array tells neither its voxels' size nor its orientation; its axes are taken to be R, A, S."""
        if spacing is None and self.predictor.preprocessing.mode == "patch":
            raise RefusalError(
                400,
                "an array tells no voxel size, which this model needs; send NIfTI, or spacing=X,Y,Z in mm "
                "in X-Amzn-SageMaker-Custom-Attributes",
            )
        voxels = read_npy_volume(source, self.settings.max_voxels)
        affine = np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0])
        return Scan(Volume(voxels, affine), "mm" if spacing else "unknown", None)

    def _require_grid(self, volume: Volume) -> None:
        """Refuse a small file whose voxel size makes a huge volume of it on the network's grid."""
        ras = to_ras(volume)
        shape = target_shape(ras.voxels.shape, ras.spacing, self.predictor.preprocessing)
        if math.prod(shape) > self.settings.max_voxels:
            raise TooLargeError(
                InMemory(BODY, b""),
                f"has more than {self.settings.max_voxels} voxels at the model's voxel size; "
                "mend the header's voxel size or cut the volume",
            )


def read_spacing(attributes: str) -> Triple | None:
    """Voxel edges in mm from custom attributes: `spacing=X,Y,Z`, among others that a semicolon divides.

    Raises:
        RefusalError: 400: it is given, and is no three positive numbers.
    """
    pairs = dict(part.strip().partition("=")[::2] for part in attributes.split(";"))
    if "spacing" not in pairs:
        return None
    try:
        x, y, z = (float(edge) for edge in pairs["spacing"].split(","))
    except ValueError:
        x = y = z = math.nan
    if not all(1e-6 <= edge <= 1e6 for edge in (x, y, z)):
        raise RefusalError(400, "spacing in the custom attributes is no three positive numbers; write spacing=1,1,2.5")
    return x, y, z


def summarise(scan: Scan, labels: NDArray[np.uint8], record: ModelRecord) -> dict[str, Any]:
    """How large each structure is: in ml where the lengths' unit is known, else in voxels."""
    counts = np.bincount(labels.ravel(), minlength=len(record.classes))[: len(record.classes)].tolist()
    voxels = dict(zip(record.classes[1:], counts[1:], strict=True))
    factor = MILLILITRES if scan.unit == "mm" else None
    edge = abs(float(np.linalg.det(scan.volume.affine[:3, :3])))
    volumes = voxels if factor is None else {name: count * edge * factor for name, count in voxels.items()}
    return {
        "classes": record.classes,
        "unit": "voxels" if factor is None else "ml",
        "volumes": volumes,
        "voxels": voxels,
        "shape": list(labels.shape),
        "spacing": list(scan.volume.spacing),
        "spacing_unit": scan.unit,
        "model": describe(record),
    }


def _in_header(summary: dict[str, Any]) -> str:
    """Unit and volumes as one line of JSON in ASCII; without the volumes where they don't fit."""
    unit = summary["unit"]
    short = {name: float(f"{volume:.6g}") for name, volume in summary["volumes"].items()}
    text = json.dumps({"unit": unit, "volumes": short}, separators=(",", ":"), allow_nan=False)
    return text if len(text) <= MAX_ATTRIBUTES else json.dumps({"unit": unit, "omitted": "accept application/json"})


def _as_nifti(scan: Scan, labels: NDArray[np.uint8]) -> bytes:
    if scan.source is not None:
        return labels_on_grid(scan.source, labels)
    kind = nib.Nifti1Image if max(labels.shape) <= MAX_NIFTI1_EDGE else nib.Nifti2Image
    image = kind(labels, scan.volume.affine)
    image.header.set_xyzt_units(scan.unit)
    return gzip_bytes(image.to_bytes())


def _as_npy(labels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    np.save(file, labels, allow_pickle=False)
    return file.getvalue()
