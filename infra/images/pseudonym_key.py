"""Make the key of pseudonyms in the artefact bucket, once: the build runs `python -m infra.images.pseudonym_key`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from botocore.exceptions import BotoCoreError, ClientError

from medloop.cloud.layout import PSEUDONYM_KEY
from medloop.cloud.sessions import open_target
from medloop.cloud.target import Target, TargetName
from medloop.cloud.upsert import ensure_pseudonym_key
from medloop.errors import MedloopError


def main(open_account: Callable[[TargetName], Target] = open_target) -> int:
    """Make it unless it is there, and print which; returns the exit code."""
    try:
        was_made = ensure_pseudonym_key(open_account("aws"))
    except (MedloopError, BotoCoreError, ClientError) as error:
        print(f"error: {PSEUDONYM_KEY}: {error}", file=sys.stderr)
        return 1
    print(f"{PSEUDONYM_KEY}: {'made' if was_made else 'is there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
