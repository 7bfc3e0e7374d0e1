"""Serve a model: SageMaker's hosting contract.

By hand, from the repository's root, with a folder that a training job wrote:

    python containers/serve/main.py serve --model-dir MODEL --port 8080
    curl --data-binary @image.png http://127.0.0.1:8080/invocations

README.md describes the contract.
"""

from __future__ import annotations

import sys

from medloop.container.run import run
from medloop.serving.server import serve
from medloop.serving.settings import read_settings


def main() -> None:
    """Read the settings, load the model, and serve requests until SIGTERM."""
    serve(read_settings(sys.argv[1:]))


if __name__ == "__main__":
    run(main, kind="serving")
