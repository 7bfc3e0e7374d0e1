"""Keys and prefixes of the artefact bucket, on either target."""

from __future__ import annotations

PSEUDONYM_KEY = "keys/pseudonyms.key"
"""The secret behind patients' pseudonyms: made once, never overwritten."""
EXECUTIONS = "executions"
"""Outputs of jobs: executions/<pipeline>/<execution id>/<step>/<output>."""
NO_MODEL = "champion/none"
"""The folder that stands for a champion where there is none: an input can't be empty or left out."""
NO_MODEL_FILE = f"{NO_MODEL}/no-model.txt"
"""Its one file, put there by upsert."""
TENSORBOARD = "tensorboard"
"""TensorBoard's event files: tensorboard/<pipeline>/<training job>/tensorboard-output."""
TEST_USES = "test-uses"
"""The ledger of test sets' uses: test-uses/<task>/<digest of the test set>/<number of the use>."""
