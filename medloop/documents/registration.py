"""registration.json: its names and limits. `medloop.evaluation.registration` fills it in; the register step reads it.

The step takes each text by name with `Std:JsonGet`. A file of its own: a property file may have 2 MB
(https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-quotas.html), which split.json of a large data set exceeds.
"""

from __future__ import annotations

from medloop.documents.artefact import ARTEFACT_DIGEST, MODEL_DIGEST
from medloop.documents.champion import CLASSES_DIGEST

HYPERPARAMETERS = ("epochs", "batch_size", "learning_rate")
NONE = "none"
METADATA = (
    "score",
    "evidence",
    "margin_left",
    "champion",
    "test_uses",
    "split_train",
    "split_val",
    "split_test",
    "leakage",
    "quarantined",
    "data_digest",
    CLASSES_DIGEST,
    "code_digest",
    "network",
    "tracking_run",
    "evaluation_digest",
    "report_digest",
    ARTEFACT_DIGEST,
    MODEL_DIGEST,
)
"""Names that the register step takes into the version's metadata too, as they are."""
CARD = ("best_name", "best_value", "input", *HYPERPARAMETERS)
"""Names for the model card alone; these and METADATA are always in the file, with "none" if nothing is known."""
METRIC_GROUPS = "metric_groups"
"""The card's `metric_groups`, as JSON."""
MAX_CLASSES = 20
"""Of charts by class; the service takes 100,000 characters of the whole card."""
MAX_CARD_METRICS = 20_000
"""Characters of `metric_groups`."""
