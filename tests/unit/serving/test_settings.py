"""Settings of a serving container."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.errors import SettingError
from medloop.serving.settings import read_settings


def test_in_hostings_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 8080 of every interface, and the model where hosting unpacks it."""
    monkeypatch.delenv("ML_ROOT", raising=False)
    settings = read_settings(["serve"], {})
    assert (settings.port, settings.host, settings.model_dir.name) == (8080, "0.0.0.0", "model")  # noqa: S104


def test_on_one_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loopback only: patients' images don't travel by accident."""
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    settings = read_settings(["serve"], {"SAGEMAKER_BIND_TO_PORT": "9123", "MEDLOOP_SERVE_QUEUE": "7"})
    assert settings.model_dir == tmp_path / "model"
    assert (settings.port, settings.host, settings.queue) == (9123, "127.0.0.1", 7)
    assert read_settings(["serve", "--model-dir", "m"], {}).host == "127.0.0.1"


def test_arguments_win() -> None:
    """Over hosting's port and the environment."""
    environment = {"SAGEMAKER_BIND_TO_PORT": "9123", "MEDLOOP_SERVE_MAX_PIXELS": "7"}
    settings = read_settings(["serve", "--port", "0", "--max-pixels=9", "--host", "::1"], environment)
    assert (settings.port, settings.max_pixels, settings.host) == (0, 9, "::1")


def test_the_registered_digest_comes_by_the_model_s_environment() -> None:
    """Hosting's variable, which a user may override."""
    environment = {"MEDLOOP_MODEL_SHA256": "sha256:a"}
    assert read_settings(["serve"], {}).model_sha256 == ""
    assert read_settings(["serve"], environment | {"MEDLOOP_SERVE_QUEUE": "7"}).model_sha256 == "sha256:a"
    assert read_settings(["serve", "--model-sha256", "b"], environment).model_sha256 == "b"


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "serve"),
        (["train"], {}, "first argument is not serve"),
        (["serve", "--port", "70000"], {}, "--port='70000'"),
        (["serve", "--colour", "red"], {}, "--colour is unknown"),
        (["serve"], {"MEDLOOP_SERVE_WORKERS": "many"}, "--workers='many'"),
        (["serve"], {"MEDLOOP_SERVE_QUEU": "1"}, "--queu is unknown"),
        (["serve"], {"SAGEMAKER_BIND_TO_PORT": "http"}, "--port='http'"),
    ],
)
def test_refused_by_name(arguments: list[str], environment: dict[str, str], message: str) -> None:
    """A wrong value or an unknown name."""
    with pytest.raises(SettingError, match=message):
        read_settings(arguments, environment)
