"""A segmentation model behind `/invocations`: a label map on the volume's own grid, and the size of its structures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.model import ModelRecord
from medloop.documents.quantities import Triple
from medloop.imaging.files import UNKNOWN, InMemory, TooLargeError, Volume
from medloop.imaging.formats import VOLUME_FORMATS, VolumeFormat
from medloop.imaging.network_grid import grid_of, target_shape
from medloop.imaging.nifti_header import MILLIMETRES
from medloop.imaging.segment_predictor import VolumePredictor
from medloop.imaging.validation import require_contrast
from medloop.serving.media import JSON, find_format, negotiate
from medloop.serving.service import BODY, InferenceRequest, InferenceResponse, RefusalError, describe, to_json
from medloop.serving.settings import ServeSettings

MILLILITRES = 1e-3
"""Volume of a cube with edges of one mm."""
MAX_ATTRIBUTES = 1024
"""Characters of X-Amzn-SageMaker-Custom-Attributes, by InvokeEndpoint's reference."""
WRITERS = {form.media_types[0]: form.write_labels for form in VOLUME_FORMATS if form.write_labels}
"""Functions that write a label map, by media type; the first is the default."""


@dataclass(frozen=True)
class Scan:
    """A volume of a request, with its file and the file's format."""

    volume: Volume
    form: VolumeFormat
    source: InMemory

    @property
    def unit(self) -> str:
        """Unit of the affine's lengths: `mm`, or `unknown` if neither file nor request specifies it."""
        return UNKNOWN if self.volume.unit == UNKNOWN else "mm"


@dataclass(frozen=True)
class VolumeService:
    """A segmentation model that responds to requests."""

    predictor: VolumePredictor
    settings: ServeSettings

    @property
    def record(self) -> ModelRecord:
        """model.json."""
        return self.predictor.record

    def respond(self, request: InferenceRequest) -> InferenceResponse:
        """Predict a label map (the default) with its volumes in a header, or the whole summary as JSON."""
        default, *alternatives = WRITERS
        accepted = negotiate(request.accept, [default, JSON, *alternatives])
        scan = self._read(request)
        self._require_grid(scan.volume)
        labels = self.predictor.segment_volume(scan.volume, request.check_stop).labels
        summary = summarise(scan, labels, self.record)
        if accepted == JSON:
            return InferenceResponse(to_json(summary), JSON)
        write = WRITERS[accepted]
        body = write(labels, scan.volume, scan.source if scan.form.write_labels is write else None)
        return InferenceResponse(body, accepted, _in_header(summary))

    def _read(self, request: InferenceRequest) -> Scan:
        form = find_format(request.body, request.content_type, "segmentation", VOLUME_FORMATS)
        source = InMemory(BODY, request.body)
        geometry = None if form.has_geometry else self._geometry(request)
        volume = form.read(source, self.settings.max_voxels)
        if geometry is not None:
            volume = Volume(volume.voxels, *geometry)
        require_contrast(source, volume.voxels)
        return Scan(volume, form, source)

    def _geometry(self, request: InferenceRequest) -> tuple[NDArray[np.float64], str]:
        """Affine and unit of a file without voxel size and orientation; its axes are taken to be R, A, S."""
        spacing = read_spacing(request.attributes)
        if spacing is None and self.predictor.preprocessing.mode == "patch":
            raise RefusalError(
                400,
                "an array has no voxel size, which this model needs; send NIfTI, or spacing=X,Y,Z in mm "
                "in X-Amzn-SageMaker-Custom-Attributes",
            )
        return np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0]), "mm" if spacing else UNKNOWN

    def _require_grid(self, volume: Volume) -> None:
        """Refuse a small file with a voxel size that makes it a huge volume on the network's grid."""
        grid = grid_of(volume)
        shape = target_shape(grid.shape, grid.spacing, self.predictor.preprocessing)
        if math.prod(shape) > self.settings.max_voxels:
            raise TooLargeError(
                InMemory(BODY, b""),
                f"has more than {self.settings.max_voxels} voxels at the model's voxel size; "
                "correct the header's voxel size or cut the volume",
            )


def read_spacing(attributes: str) -> Triple | None:
    """Read voxel edges in mm from custom attributes: `spacing=X,Y,Z`, separated from others by a semicolon.

    Raises:
        RefusalError: 400: the spacing is not three positive numbers.
    """
    pairs = dict(part.strip().partition("=")[::2] for part in attributes.split(";"))
    if "spacing" not in pairs:
        return None
    try:
        x, y, z = (float(edge) for edge in pairs["spacing"].split(","))
    except ValueError:
        x = y = z = math.nan
    if not all(1e-6 <= edge <= 1e6 for edge in (x, y, z)):
        raise RefusalError(400, "spacing in the custom attributes is not three positive numbers; write spacing=1,1,2.5")
    return x, y, z


def summarise(scan: Scan, labels: NDArray[np.uint8], record: ModelRecord) -> dict[str, Any]:
    """Measure each structure: in ml if the file or model.json has the unit of lengths, else in voxels."""
    counts = np.bincount(labels.ravel(), minlength=len(record.classes))[: len(record.classes)].tolist()
    voxels = dict(zip(record.classes[1:], counts[1:], strict=True))
    # The reader turns other units into mm; where a header has none, its numbers are unchanged.
    unit = "mm" if scan.unit == UNKNOWN and record.length_unit else scan.unit
    length = MILLIMETRES[record.length_unit] if scan.unit == UNKNOWN and record.length_unit else 1.0
    factor = MILLILITRES * length**3 if unit == "mm" else None
    edge = abs(float(np.linalg.det(scan.volume.affine[:3, :3])))
    volumes = voxels if factor is None else {name: count * edge * factor for name, count in voxels.items()}
    return {
        "classes": record.classes,
        "unit": "voxels" if factor is None else "ml",
        "volumes": volumes,
        "voxels": voxels,
        "shape": list(labels.shape),
        "spacing": [length * edge for edge in scan.volume.spacing],
        "spacing_unit": unit,
        **({"length_unit": f"{record.length_unit} (model.json; the header has none)"} if unit != scan.unit else {}),
        "model": describe(record),
    }


def _in_header(summary: dict[str, Any]) -> str:
    """Write unit and volumes as one line of JSON in ASCII, without the volumes if they don't fit."""
    unit = summary["unit"]
    short = {name: float(f"{volume:.6g}") for name, volume in summary["volumes"].items()}
    text = json.dumps({"unit": unit, "volumes": short}, separators=(",", ":"), allow_nan=False)
    return text if len(text) <= MAX_ATTRIBUTES else json.dumps({"unit": unit, "omitted": "accept application/json"})
