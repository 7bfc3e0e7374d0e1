"""dataset.json of nnU-Net and the Medical Segmentation Decathlon. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medloop.documents.json_text import read_json

_MAX_JSON = 2**20


@dataclass(frozen=True)
class DescribedLabels:
    """The content of dataset.json: names of labels by value, and whether images have several channels."""

    labels: str = ""
    several: bool = False


def describe(root: Path) -> DescribedLabels:
    """Read what dataset.json says of labels and channels; nothing if it can't be read."""
    path = root / "dataset.json"
    try:
        content = read_json(path, _MAX_JSON) if path.is_file() else {}
        labels = {str(key): value for key, value in content.get("labels", {}).items()}
        values = labels if all(key.isdigit() for key in labels) else {str(v): k for k, v in labels.items()}
        names = [str(values[str(value)]) for value in range(len(values))]
        channels = content.get("channel_names") or content.get("modality") or {}
        return DescribedLabels(",".join(names), len(channels) > 1)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return DescribedLabels()
