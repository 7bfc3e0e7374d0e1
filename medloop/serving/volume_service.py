"""A segmentation model behind `/invocations`: a label map on the volume's own grid, and the size of its structures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.documents.model import ModelRecord, Triple
from medloop.imaging.files import UNKNOWN, InMemory, TooLargeError, Volume
from medloop.imaging.formats import VOLUME_FORMATS, VolumeFormat
from medloop.imaging.segment_predictor import VolumePredictor
from medloop.imaging.validation import require_contrast
from medloop.imaging.volumes import target_shape, to_ras
from medloop.serving.media import JSON, choose, format_of
from medloop.serving.refusals import RefusalError
from medloop.serving.service import BODY, Answer, Inquiry, as_json, describe
from medloop.serving.settings import ServeSettings

MILLILITRES = 1e-3
"""Of a cube whose edge is one mm."""
MAX_ATTRIBUTES = 1024
"""Characters of X-Amzn-SageMaker-Custom-Attributes, by InvokeEndpoint's reference."""
WRITERS = {form.media_types[0]: form.write_labels for form in VOLUME_FORMATS if form.write_labels}
"""What writes a label map, by media type; the first is the default."""


@dataclass(frozen=True)
class Scan:
    """A volume as it was sent.

    Attributes:
        volume: Voxels and affine.
        form: The file's format.
        source: The file.
    """

    volume: Volume
    form: VolumeFormat
    source: InMemory

    @property
    def unit(self) -> str:
        """Unit of the affine's lengths: `mm`, or `unknown` where neither file nor client told it."""
        return UNKNOWN if self.volume.unit == UNKNOWN else "mm"


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
        default, *others = WRITERS
        accepted = choose(inquiry.accept, [default, JSON, *others])
        scan = self._read(inquiry)
        self._require_grid(scan.volume)
        labels = self.predictor.segment_volume(scan.volume, inquiry.proceed).labels
        summary = summarise(scan, labels, self.record)
        if accepted == JSON:
            return Answer(as_json(summary), JSON)
        write = WRITERS[accepted]
        body = write(labels, scan.volume, scan.source if scan.form.write_labels is write else None)
        return Answer(body, accepted, _in_header(summary))

    def _read(self, inquiry: Inquiry) -> Scan:
        form = format_of(inquiry.body, inquiry.content_type, "segmentation", VOLUME_FORMATS)
        source = InMemory(BODY, inquiry.body)
        place = None if form.has_geometry else self._affine(inquiry)
        volume = form.read(source, self.settings.max_voxels)
        if place is not None:
            volume = Volume(volume.voxels, *place)
        require_contrast(source, volume.voxels)
        return Scan(volume, form, source)

    def _affine(self, inquiry: Inquiry) -> tuple[NDArray[np.float64], str]:
        """Affine and unit of a file that tells neither voxel size nor orientation; its axes are taken to be R, A, S."""
        spacing = read_spacing(inquiry.attributes)
        if spacing is None and self.predictor.preprocessing.mode == "patch":
            raise RefusalError(
                400,
                "an array tells no voxel size, which this model needs; send NIfTI, or spacing=X,Y,Z in mm "
                "in X-Amzn-SageMaker-Custom-Attributes",
            )
        return np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0]), "mm" if spacing else UNKNOWN

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
