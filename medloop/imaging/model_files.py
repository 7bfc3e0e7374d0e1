"""The files of a trained model, from any source: unpacked safely, and nothing unpickled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medloop.documents.archive import MODEL_LIMITS, ArchiveError, unpack
from medloop.documents.file_names import ARCHIVE_FILE, MODEL_FILE, WEIGHTS_FILE
from medloop.errors import DataError, TargetError


def unpack_model(folder: Path, into: Path) -> Path:
    """Return the folder with a model's files.

    Args:
        folder: Holds the files themselves, or model.tar.gz.
        into: Where the archive is unpacked; unused otherwise.

    Raises:
        DataError: Neither is there, or the archive is damaged, reaches out of its folder or is larger than any model.
        TargetError: The disk is full.
    """
    if (folder / MODEL_FILE).is_file():
        return folder
    archive = folder / ARCHIVE_FILE
    if not archive.is_file():
        raise DataError(f"{folder.name}: contains neither {MODEL_FILE} nor {ARCHIVE_FILE}; give a training job's model")
    try:
        unpack(archive, into, MODEL_LIMITS)
    except ArchiveError as error:
        raise DataError(f"{ARCHIVE_FILE}: can't be unpacked: {error}; give a training job's own archive") from None
    except OSError as error:
        raise TargetError(f"{ARCHIVE_FILE}: can't be unpacked ({error.strerror}); free the disk") from None
    if not (into / MODEL_FILE).is_file():
        raise DataError(f"{ARCHIVE_FILE}: contains no {MODEL_FILE}; give a training job's own archive")
    return into


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights in a model folder by name, on the CPU.

    Raises:
        DataError: model.safetensors is absent or damaged, or contains values that are not finite.
    """
    try:
        weights: dict[str, Tensor] = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{WEIGHTS_FILE}: can't be read ({error}); give the training job's own file") from None
    for name, values in weights.items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise DataError(f"{WEIGHTS_FILE}: {name} contains values that are not finite; train the model again")
    return weights


def load_weights(network: nn.Module, folder: Path) -> None:
    """Load a model folder's weights into the network that its model.json describes.

    Raises:
        DataError: The file can't be read, or doesn't fit the network.
    """
    put_weights(network, read_weights(folder))


def put_weights(network: nn.Module, weights: Mapping[str, Tensor], fresh: str | None = None) -> None:
    """Copy weights into a network.

    Args:
        network: All its weights are set, save the fresh ones.
        weights: By name.
        fresh: Weights whose names begin so keep what the network has; None sets all.

    Raises:
        DataError: A weight is missing, unknown or of another shape; the message names the first.
    """
    skipped = fresh or ()
    expected = {name: values.shape for name, values in network.state_dict().items() if not name.startswith(skipped)}
    trained = {name: values for name, values in weights.items() if not name.startswith(skipped)}
    problem = _first_difference(expected, {name: values.shape for name, values in trained.items()})
    if problem:
        raise DataError(f"{WEIGHTS_FILE}: {problem}: it doesn't fit the network in {MODEL_FILE}; give both of one job")
    network.load_state_dict(trained, strict=False)


def _first_difference(expected: Mapping[str, Iterable[int]], shapes: Mapping[str, Iterable[int]]) -> str:
    for name, shape in expected.items():
        if name not in shapes:
            return f"{name} is missing"
        if tuple(shapes[name]) != tuple(shape):
            return f"{name} has shape {list(shapes[name])}, not {list(shape)}"
    unknown = sorted(set(shapes) - set(expected))
    return f"{unknown[0]} is unknown" if unknown else ""
