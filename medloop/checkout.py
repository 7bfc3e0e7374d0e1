"""The folder of this project's files: a checkout, or where a wheel was installed to."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
"""The checkout, or the folder that a wheel was installed to: `containers/` are files next to the package."""


def checkout_folder() -> str:
    """The checkout that this process runs; empty if it runs an installed wheel, next to which other packages lie."""
    return str(REPOSITORY) if (REPOSITORY / "pyproject.toml").exists() else ""
