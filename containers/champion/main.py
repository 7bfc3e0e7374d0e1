"""Champion function: which Approved versions a candidate is compared with, and how often its test set has been used.

By hand, from the repository's root, with the credentials of the shell (README.md in this folder has an event):

    PYTHONPATH=. python containers/champion/main.py < event.json

README.md tells the contract.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3

from medloop.champion import respond
from medloop.errors import MedloopError


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Handle Lambda's event; the local backend replaces boto3's default session."""
    return respond(event, boto3.client("sagemaker"), boto3.client("s3"))


if __name__ == "__main__":
    try:
        print(json.dumps(handler(json.load(sys.stdin), None), indent=2))
    except MedloopError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
