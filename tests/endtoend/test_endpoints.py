"""A classifier is trained, approved, deployed, invoked, updated and deleted through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.endtoend.test_local_run import SMALL, STATED, wait_for

pytestmark = pytest.mark.slow
NAME = "medloop-classification-bilder-fur-alle"


def test_a_pipeline_deploys_and_an_approver_updates(medloop: Any, images: Path, tmp_path: Path) -> None:
    """deploy.mode=pipeline creates the endpoint; an approved version updates it; an unreadable file is refused."""
    unseen = tmp_path / "unseen.png"
    pixels = np.random.default_rng(9).integers(180, 220, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(unseen)
    sets = ("--set", "deploy.mode=pipeline", "--param", "MinScore=0", *STATED)
    assert medloop("run", "classification", "--data", str(images), *SMALL, *sets) == 0, medloop.err
    try:
        first = medloop.json("endpoints", "invoke", NAME, str(unseen))
        assert set(first["probabilities"]) == {"bright", "dark"}
        assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert medloop("endpoints", "deploy", NAME) == 2
        assert f"medloop models approve {NAME}/1" in medloop.err
        assert medloop("models", "approve", f"{NAME}/1", "--reason", "it tells bright from dark", "--as", "QM") == 0, (
            medloop.err
        )
        assert medloop.json("endpoints", "deploy", NAME)["action"] == "updated"
        assert medloop.json("endpoints", "deploy", NAME)["action"] == "unchanged"
        assert medloop.json("endpoints", "invoke", NAME, str(unseen))["probabilities"] == first["probabilities"]
        (row,) = medloop.json("endpoints", "list")
        assert (row["status"], row["model"]) == ("InService", f"{NAME}/1")
        unseen.write_bytes(b"no image")
        assert medloop("endpoints", "invoke", NAME, str(unseen)) == 2
        assert "the model refuses it (415)" in medloop.err
    finally:
        assert medloop("endpoints", "delete", NAME) == 0
    assert medloop.json("endpoints", "list") == []
    wait_for(lambda: not any((medloop.home / "endpoints").glob("*")))
