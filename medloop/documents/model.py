"""model.json: all that inference needs in addition to the weights.

Written by training, read by evaluation and serving. Torch-free.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from medloop.documents.file_names import MODEL_FILE
from medloop.documents.image_statistics import FULL_RANGE, ImageStatistics, range_text
from medloop.documents.quantities import Finite, LengthUnit, Percentile, Positive
from medloop.documents.reading import DocumentFile, Record

MAX_EDGE = 4096
Edge = Annotated[int, Field(ge=1, le=MAX_EDGE)]


class Network(Record):
    """A network's name and the arguments that build it (`medloop.imaging.networks.build`)."""

    name: str
    arguments: dict[str, Any]


class ImagePreprocessing(Record):
    """Steps from a 2D image to the network's input: decode, channels, scale to 0..1, resize, standardise."""

    kind: Literal["image"] = "image"
    image_size: int = Field(ge=1, le=MAX_EDGE)
    channels: Literal[1, 3]
    mean: Finite
    std: Positive
    images: ImageStatistics | None = None
    """The training images, with the range that 16-bit values are scaled by; None in models of earlier versions."""

    @property
    def value_range(self) -> tuple[float, float]:
        """The 16-bit values that become 0 and 1."""
        return (self.images and self.images.value_range) or FULL_RANGE

    @property
    def text(self) -> str:
        """The network's input, such as `RGB 64 x 64 pixels - 16-bit values scaled by 0..4095`, for model cards too."""
        deep = self.images is None or self.images.num_16_bits
        scaled = f" - 16-bit values scaled by {range_text(self.value_range)}" if deep else ""
        return f"{'grey' if self.channels == 1 else 'RGB'} {self.image_size} x {self.image_size} pixels{scaled}"


class Intensity(Record):
    """Rule by which voxel values are scaled.

    zscore: by the volume itself; window, dataset: clip to [low, high], then (x - mean) / std.
    """

    rule: Literal["zscore", "window", "dataset"]
    low: Finite | None = None
    high: Finite | None = None
    mean: Finite | None = None
    std: Positive | None = None
    percentiles: tuple[Percentile, Percentile] | None = None
    """zscore: mean and standard deviation are those of the voxels clipped to these; None: of all voxels."""


class VolumePreprocessing(Record):
    """Steps from a volume to the network's input: RAS, resample (spacing) or resize (size), scale."""

    kind: Literal["volume"] = "volume"
    mode: Literal["resize", "patch"]
    size: tuple[Edge, Edge, Edge] | None
    spacing: tuple[Positive, Positive, Positive] | None
    intensity: Intensity

    @property
    def text(self) -> str:
        """The network's input, such as `patch - spacing 1 x 1 x 2 - intensity zscore`."""
        edges = [("size", self.size), ("spacing", self.spacing)]
        grid = "".join(f" - {name} {' x '.join(f'{edge:g}' for edge in values)}" for name, values in edges if values)
        return f"{self.mode}{grid} - intensity {self.intensity.rule}"


class Inference(Record):
    """Sliding-window rule; `patch_size` is None if the whole volume is one window."""

    patch_size: tuple[Edge, Edge, Edge] | None = None
    overlap: float = Field(default=0.5, ge=0, lt=1)
    blending: Literal["gaussian"] = "gaussian"
    mirroring: bool = False


class TrainedOn(Record):
    """Pseudonyms of the patients that the weights have seen, those of `weights` included."""

    train: list[str]
    val: list[str]


class Best(Record):
    """The checkpoint that was kept."""

    epoch: int
    metric: str
    value: float


class TrackingRun(Record):
    """Names that find a training run on an experiment tracker. No address: that may contain a password."""

    tracker: Literal["mlflow", "wandb"]
    kind: str
    """mlflow: `sqlite`, `http`, `https` or `arn`; wandb: `online` or `offline`."""
    experiment: str
    """MLflow's experiment, or W&B's project."""
    run_id: str


class ModelRecord(DocumentFile):
    """The whole of model.json."""

    FILE = MODEL_FILE
    FIX = "give the folder that a training job wrote"

    version: int = 4
    """2 added `tracking`; 3 made `operating_point` one by class; 4 added `percentiles`, `length_unit`, and `images`
    of an image's preprocessing. Older files are read as they are: theirs is null."""
    task: Literal["classification", "segmentation"]
    network: Network
    classes: list[str]
    """Class names by output index; segmentation: the background first."""
    preprocessing: Annotated[ImagePreprocessing | VolumePreprocessing, Field(discriminator="kind")]
    inference: Inference | None = None
    temperature: Positive | None = None
    """Divides a classifier's logits; fitted on val and frozen. None: none could be fitted."""
    operating_point: dict[str, Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]] | None = None
    """By class: the calibrated probability from which it is called; a class without one is absent."""
    length_unit: LengthUnit | None = None
    """Segmentation: unit of lengths of volumes whose header states none; None: unknown, so volumes are in voxels."""
    patients: TrainedOn
    best: Best
    hyperparameters: dict[str, Any]
    data_digest: str
    code_digest: str
    versions: dict[str, str]
    tracking: list[TrackingRun] = Field(default_factory=list)
    """The run on each tracker that could be reached, except TensorBoard."""
