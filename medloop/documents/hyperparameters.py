"""Hyperparameters of both tasks: one model each, written by `steps/` and read by the jobs. Torch-free.

On the wire every hyperparameter is a string that holds JSON (SageMaker's CreateTrainingJob accepts strings only).
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from medloop.documents.label_names import LabelNames
from medloop.documents.networks import NETWORKS, network_names, networks_with
from medloop.documents.quantities import LengthUnit, Percentile
from medloop.documents.reading import first_problem
from medloop.documents.split import Task
from medloop.documents.split_rule import Resampling
from medloop.documents.wandb_keys import refuse_keys
from medloop.errors import SettingError

RESERVED_PREFIXES = ("_tuning_", "sagemaker_")
"""Hyperparameters that begin so are added by the service and are not ours."""
REPLACEABLE_NETWORK = {"replaceable_network": True}
"""Validation context of values that a parameter or a trial may have replaced after they were chosen together."""

MIN_SIZE, MAX_SIZE, SIZE_STEP = 64, 256, 32
"""Image sizes that `auto` chooses; a smaller one leaves networks that halve an image five times a single pixel."""

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _network_of(task: Task) -> AfterValidator:
    def check(name: str) -> str:
        if name not in network_names(task):
            raise ValueError(f"must be one of {', '.join(network_names(task))}")
        return name

    return AfterValidator(check)


class Hyperparameters(BaseModel):
    """Hyperparameters of both tasks."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: PositiveFloat = 1e-3
    weight_decay: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    warmup_fraction: Fraction = 0.1
    """Share of all optimiser steps in which the learning rate rises linearly; a cosine follows."""
    val_interval: int = Field(default=1, ge=1)
    """Epochs between two validations."""
    patience: int = Field(default=10, ge=0)
    """Validations without a better score before training stops early; 0 never stops early."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    max_minutes: PositiveFloat | None = None
    """Training ends after the epoch that passes this limit, with the best checkpoint so far."""

    accumulation: int = Field(default=1, ge=1)
    """Parts that a batch is computed in, one after the other: less memory, the same number of samples a step."""
    clip_norm: PositiveFloat | None = None
    """Longest gradient; a longer one is scaled down to it. None leaves gradients as they are."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay, a step, of an average of the weights, which is then validated and kept; 0 takes the weights themselves."""
    deterministic: bool = False
    """Bit-identical weights on the same machine, at some cost in speed on a GPU."""

    strategy: Literal["single", "ddp", "fsdp"] = "single"
    """single: one process; ddp: each process has the whole network; fsdp: network and optimiser are divided."""
    processes: int = Field(default=0, ge=0, le=1024)
    """Processes on each host with ddp and fsdp; 0: one a GPU, two on a host without. A batch is divided among all."""
    num_workers: int = Field(default=0, ge=0)
    """Threads that decode and prepare data; 0: as many as this process has cores."""
    data_device: Literal["auto", "cpu", "gpu"] = "auto"
    """Device of prepared data; auto: on the GPU if it takes less than half of the free memory."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 autocast on a GPU that supports it, fp16 with a scaled loss on other GPUs, fp32 on the CPU."""
    channels_last: bool | Literal["auto"] = "auto"
    """Layout of activations; auto: what was measured to be faster for the network."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile; auto: on a GPU, once the time that is left, as measured, pays for compiling."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: about a third more time for much less memory."""
    auto_batch: bool = False
    """Raise batch_size to the largest that fits the GPU; one that doesn't fit is accumulated in parts."""
    checkpoint_minutes: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    """Minutes between two checkpoints to resume from; 0 writes one after every step."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Number of the newest checkpoints to resume from."""

    @model_validator(mode="after")
    def _network_takes_it(self, info: ValidationInfo) -> Self:
        """Refuse a value, other than the default, of a setting that is for other networks than the chosen one.

        With REPLACEABLE_NETWORK it isn't refused: the settings were chosen for the network that was replaced, and jobs
        ignore those of other networks.
        """
        fields, network = type(self).model_fields, NETWORKS.get(getattr(self, "model_name", ""))
        if network is None or info.context == REPLACEABLE_NETWORK:
            return self
        for setting in sorted(self.model_fields_set):
            takers = networks_with(setting, network.task)
            if takers and network.name not in takers and getattr(self, setting) != fields[setting].default:
                raise ValueError(f"{setting} is for {' and '.join(takers)}, not for {network.name}: leave it out")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.processes > 1 and self.strategy == "single":
            raise ValueError("processes is for strategy=ddp and strategy=fsdp; set one of them, or leave it out")
        if self.strategy == "fsdp" and self.channels_last is True:
            raise ValueError("channels_last=true can't be combined with strategy=fsdp, which divides plain layouts")
        if self.strategy == "fsdp" and self.precision == "fp16":
            raise ValueError("precision=fp16 can't be combined with strategy=fsdp; take bf16 or fp32")
        if self.strategy == "fsdp" and self.auto_batch:
            raise ValueError("auto_batch can't be combined with strategy=fsdp: what one process lacks stops the others")
        if self.accumulation > self.batch_size:
            raise ValueError(f"accumulation={self.accumulation} needs a batch_size of at least that many samples")
        return self

    @classmethod
    def from_wire(cls, strings: dict[str, str]) -> Self:
        """Read a job's hyperparameters; settings of other networks than the job's are no error.

        Args:
            strings: Name to JSON text; text that is no JSON is taken as text.

        Raises:
            SettingError: A name is unknown, or a value has the wrong type; the message names it.
        """
        refuse_keys(strings, "hyperparameter")
        values = {k: _decode(v) for k, v in strings.items() if not k.startswith(RESERVED_PREFIXES)}
        try:
            # A pipeline sends every setting; a person who starts a job by hand chooses a few, for one network.
            is_pipelines = cls.model_fields.keys() <= values.keys()
            return cls.model_validate(values, context=REPLACEABLE_NETWORK if is_pipelines else None)
        except ValidationError as error:
            raise SettingError(_explain(error, cls)) from None

    def to_wire(self) -> dict[str, str]:
        """Every hyperparameter as JSON text, sorted by name."""
        values = self.model_dump(mode="json")
        return {name: json.dumps(values[name]) for name in sorted(values)}


class ClassificationHyperparameters(Hyperparameters):
    """2D image classification."""

    model_name: Annotated[str, _network_of("classification")] = "densenet121"
    image_size: Annotated[int, Field(ge=16, le=2048)] | Literal["auto"] = "auto"
    """Edge of the square, in pixels, that images are resized to; auto: the training images' edge, from 64 to 256."""
    channels: Literal[1, 3, "auto"] = "auto"
    """1 reads images as grey, 3 as RGB; auto: 3 if a training image is in colour."""
    class_weights: Literal["none", "balanced"] = "none"
    augment: bool = True
    flips: bool = False
    """Mirror images at random: off where left and right distinguish classes."""
    dropout: Dropout = 0.0
    label_smoothing: Fraction = 0.0

    def image_size_for(self, edge: int) -> int:
        """Choose the size of `image_size=auto`: the smallest that the network takes and that enlarges no image much.

        Args:
            edge: Median of the images' longer edges, in pixels.
        """
        network = NETWORKS[self.model_name]
        step = math.lcm(SIZE_STEP, network.shape_multiple(self.model_dump()))
        least = max(MIN_SIZE, network.min_edge, network.min_edge_single)
        return step * math.ceil(min(max(edge, least), max(MAX_SIZE, least)) / step)

    @model_validator(mode="after")
    def _image_size_suits_the_network(self) -> Self:
        network = NETWORKS[self.model_name]
        if self.image_size == "auto":
            return self
        if self.image_size % (multiple := network.shape_multiple(self.model_dump())):
            raise ValueError(f"image_size must be a multiple of {multiple} for {network.name}")
        if self.image_size < network.min_edge:
            raise ValueError(f"image_size must be at least {network.min_edge} for {network.name}")
        if self.batch_size == 1 and self.image_size < network.min_edge_single:
            raise ValueError(f"batch_size=1 needs image_size of at least {network.min_edge_single} for {network.name}")
        return self


class SegmentationHyperparameters(Hyperparameters):
    """3D segmentation."""

    model_name: Annotated[str, _network_of("segmentation")] = "segresnet"
    batch_size: int = Field(default=2, ge=1)
    learning_rate: PositiveFloat = 1e-4
    labels: LabelNames | None = None
    """Class names by label value, the background first; None takes them from split.json."""
    mode: Literal["resize", "patch"] = "patch"
    """resize: the whole volume, resized to `size`; patch: resampled to `spacing`, trained on patches."""
    size: tuple[int, int, int] = (128, 128, 64)
    """Voxels of the resized volume, in RAS order (mode=resize)."""
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Voxel size in the volume's own units, mostly mm (mode=patch); None: the median of the training volumes."""
    patch_size: tuple[int, int, int] = (96, 96, 96)
    patches_per_volume: int = Field(default=2, ge=1)
    foreground_ratio: Fraction = 0.67
    """Share of patches whose centre is a foreground voxel."""
    intensity: Literal["zscore", "window", "dataset"] = "zscore"
    """zscore: per volume (MR, ultrasound); window: fixed `window` (CT); dataset: the training set's statistics (CT)."""
    zscore_percentiles: tuple[Percentile, Percentile] | None = (0.5, 99.5)
    """Percentiles to which a volume is clipped for the mean and standard deviation of intensity=zscore, so that extreme
    voxels (hot pixels, metal, a fill value) don't change them; None: of all voxels, unclipped."""
    window: tuple[Finite, Finite] = (-100.0, 500.0)
    """Lower and upper bound of intensity=window, scaled to 0..1 and clipped."""
    loss: Literal["dice_ce", "dice"] = "dice_ce"
    augment: bool = True
    flips: bool = False
    """Mirror volumes at random on all axes: off where classes are lateralised."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Overlap of neighbouring windows at inference."""
    mirroring: bool = False
    """Average predictions over mirrored inputs (only where `flips` is on)."""
    init_filters: int = Field(default=16, ge=8, multiple_of=8)
    """SegResNet's first width; its group normalisation has 8 groups."""
    unet_channels: list[Annotated[int, Field(ge=1)]] = Field(default=[64, 128, 256, 512, 1024], min_length=2)
    feature_size: int = Field(default=48, ge=12, multiple_of=12)
    """SwinUNETR's width."""
    dropout: Dropout = 0.2
    length_unit: LengthUnit | None = None
    """Unit of lengths of volumes whose header states none, for the endpoint; evaluate.length_unit gives it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.window[0] >= self.window[1]:
            raise ValueError("window must be [lower, upper] with lower < upper")
        if self.zscore_percentiles and self.zscore_percentiles[0] >= self.zscore_percentiles[1]:
            raise ValueError("zscore_percentiles must be [lower, upper] with lower < upper, or null")
        if self.mirroring and not self.flips:
            raise ValueError("mirroring needs flips: the network must have seen mirrored volumes")
        return self

    @property
    def resampling(self) -> Resampling:
        """The voxel size on which the network is trained."""
        return Resampling(resample=self.mode == "patch", spacing=self.spacing)


AnyHyperparameters = ClassificationHyperparameters | SegmentationHyperparameters


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _explain(error: ValidationError, cls: type[BaseModel]) -> str:
    problem = first_problem(error)
    name = problem.field
    if not name:
        return f"hyperparameters: {problem.reason}"
    if problem.kind == "extra_forbidden":
        return f"hyperparameter {name} is unknown; known: {', '.join(sorted(cls.model_fields))}"
    return f"hyperparameter {name}={problem.value!r}: {problem.reason}; fix its value"
