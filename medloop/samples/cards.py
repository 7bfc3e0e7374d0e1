"""Model cards of the sample data sets, stored in their folders as a user's own would."""

from __future__ import annotations

from pathlib import Path

import yaml

from medloop.documents.file_names import CARD_FILE

CARDS: dict[str, dict[str, str]] = {
    "plane": {
        "intended_use": "Demonstration: predicts the plane (axial, coronal, sagittal) of a 2D slice. No clinical use.",
        "population": "None: seven volumes of public packages (head and chest; MR and CT), four of one person each, "
        "three templates.",
        "exclusions": "Slices that are nearly empty, and the outer ones of each volume.",
        "reference_standard": "Exact by construction: the axis along which each slice was cut.",
        "annotators": "None needed.",
    },
    "brain-tissue": {
        "intended_use": "Demonstration: outlines grey and white matter in synthetic brain MR. No clinical use.",
        "population": "None: every subject is one template (ICBM152 2009a), deformed and degraded at random.",
        "exclusions": "None: every generated subject is used.",
        "reference_standard": "The template's maps of grey and white matter, deformed like the image.",
        "annotators": "None: the maps are part of the template.",
        "note": "All subjects are derived from one template by random deformation; the score does not generalise to a "
        "population.",
    },
}


def write_card(folder: Path, sample: str) -> None:
    """Write a sample's `model-card.yaml`, unless its folder has one."""
    path = folder / CARD_FILE
    if not path.exists():
        text = yaml.safe_dump(CARDS[sample], sort_keys=False, allow_unicode=True, width=120)
        path.write_text(text, encoding="utf-8")
