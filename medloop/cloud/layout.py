"""Where things lie in the artefact bucket, on either target."""

from __future__ import annotations

PSEUDONYM_KEY = "keys/pseudonyms.key"
"""The secret behind patients' pseudonyms: made once, never overwritten."""
EXECUTIONS = "executions"
"""Outputs of jobs: executions/<pipeline>/<execution id>/<step>/<output>."""
