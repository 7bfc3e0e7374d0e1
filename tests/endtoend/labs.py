"""Run a lab's preset locally in its smoke size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medloop.presets import load_presets

LABS = {name: preset for name, preset in load_presets().items() if preset.lab}


def run_lab(medloop: Any, name: str, data: Path) -> dict[str, Any]:
    """Run a lab's preset with smoke=true until it has registered a version.

    Args:
        medloop: The command line.
        name: The preset.
        data: A data set of the preset's task.

    Returns:
        The document that `run --json` prints.
    """
    command = ("run", LABS[name].pipeline, "--data", str(data), "--preset", name, "--set", "smoke=true", "--json")
    assert medloop(*command) == 0, medloop.err
    outcome: dict[str, Any] = json.loads(medloop.out)
    assert outcome["execution"]["status"] == "Succeeded"
    assert outcome["model"]
    return outcome
