"""Names of the files that steps, jobs and commands hand to one another. Standard library only: functions import it."""

from __future__ import annotations

SPLIT_FILE = "split.json"
MANIFEST_FILE = "manifest.json"
"""In the folder of each split, where the layout is `manifest` (`medloop.imaging.manifest`)."""
SOURCES_FILE = "sources.json"
"""Next to split.json, where the layout is `manifest`."""
MODEL_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
HISTORY_FILE = "history.csv"
EVALUATION_FILE = "evaluation.json"
CASES_FILE = "cases.csv"
REPORT_FILE = "report.html"
REGISTRATION_FILE = "registration.json"
CARD_FILE = "model-card.yaml"
"""In the data set's folder: what a model card says of these data (`medloop.data_card`)."""
