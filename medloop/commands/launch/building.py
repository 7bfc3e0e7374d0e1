"""Build a definition without touching the home folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.commands.options import Services, TargetName

if TYPE_CHECKING:
    from medloop.settings import Resolved


def definition_text(services: Services, target: TargetName, resolved: Resolved) -> str:
    """Build the pipeline's definition as upsert would send it.

    A definition doesn't depend on the home folder, so a temporary folder is enough: the user's is neither created
    nor changed.
    """
    with tempfile.TemporaryDirectory(prefix="medloop-") as scratch:
        return services.build(services.open_target(target.value, Path(scratch)), resolved)
