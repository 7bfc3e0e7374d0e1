"""What tracking changes in the definition, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from medloop.cloud.target import Target
from medloop.cloud.upsert import build_definition
from medloop.definition.read import read_definition
from medloop.errors import SettingError
from medloop.settings import resolve
from steps.tracking import TrackingSettings, environment

KEY = "0123456789abcdef" * 2 + "01234567"
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/team"


def train_arguments(target: Target, *sets: str) -> dict[str, Any]:
    """The Train step's request with some settings."""
    definition = read_definition(build_definition(target, resolve("classification", None, sets)))
    return dict(definition.step("Train").arguments)


@pytest.mark.slow
def test_trackers_are_environment_never_hyperparameters(target: Target) -> None:
    """The address is a pipeline parameter; W&B is there when requested; a secret is a name."""
    plain = train_arguments(target)
    assert plain["Environment"]["MLFLOW_TRACKING_URI"] == {"Get": "Parameters.TrackingUri"}
    assert plain["Environment"]["MLFLOW_EXPERIMENT_NAME"] == "medloop-classification"
    assert not any(name.startswith("WANDB") for name in plain["Environment"])
    assert plain["TensorBoardOutputConfig"]["LocalPath"] == plain["Environment"]["MEDLOOP_TENSORBOARD_DIR"]

    tracked = train_arguments(
        target, "tracking.experiment=night", "tracking.wandb=online", "tracking.wandb_secret=team/wandb"
    )
    variables = tracked["Environment"]
    assert variables["MLFLOW_EXPERIMENT_NAME"] == "night"
    assert (variables["WANDB_MODE"], variables["WANDB_PROJECT"]) == ("online", "medloop-classification")
    assert variables["MEDLOOP_WANDB_SECRET"] == "team/wandb"  # noqa: S105 (a secret's name)
    assert tracked["HyperParameters"] == plain["HyperParameters"]


def test_a_store_on_this_machine_is_refused_on_aws() -> None:
    """Jobs there would find nothing."""
    with pytest.raises(SettingError, match=r"tracking.mlflow=local: jobs on AWS can't reach"):
        environment(TrackingSettings(mlflow="local"), "local", "medloop-classification", local=False)


@pytest.mark.parametrize(
    "uri", ["local", "sqlite:////data/mlflow.db", "http://127.0.0.1:5000", "https://mlflow.example.org/x", ARN, ""]
)
def test_stores_that_are_taken(uri: str) -> None:
    """As a parameter and as a setting."""
    assert resolve("classification", None, (), [f"TrackingUri={uri}"]).parameters == {"TrackingUri": uri}
    resolve("segmentation", None, [f"tracking.mlflow='{uri}'"])


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("ftp://x", "must be local"),
        ("sqlite:///relative.db", "must be local"),
        ("arn:aws:s3:::bucket", "must be local"),
        ("https://me:secret@mlflow.example.org", "password"),
        ("http://[", "Invalid IPv6 URL"),
    ],
)
def test_stores_that_are_refused(uri: str, reason: str) -> None:
    """By name of the parameter."""
    with pytest.raises(SettingError, match=f"TrackingUri=.*{reason}"):
        resolve("classification", None, (), [f"TrackingUri={uri}"])


@pytest.mark.parametrize(
    ("sets", "params"),
    [
        (["tracking.wandb=online"], []),
        ([f"tracking.mlflow={ARN}"], []),
        ([], [f"TrackingUri={ARN}"]),
        ([], ["TrackingUri=http://127.0.0.1:5000"]),
    ],
)
def test_isolated_jobs_reach_no_tracker(sets: list[str], params: list[str]) -> None:
    """Refused where both are seen, at build and at each start."""
    with pytest.raises(SettingError, match=r"needs the network, which network\.isolation closes"):
        resolve("classification", None, ["network.isolation=true", *sets], params)


@pytest.mark.parametrize("sets", [["tracking.wandb=offline"], ["tracking.wandb=off"], ["tracking.mlflow=local"]])
def test_isolated_jobs_may_track_at_home(sets: list[str]) -> None:
    """What opens no connection is left alone."""
    resolve("classification", None, ["network.isolation=true", *sets])


@pytest.mark.parametrize(
    ("sets", "params"),
    [
        ([f"tracking.wandb_secret={KEY}"], []),
        (["tracking.wandb_api_key=x"], []),
        ([f"tags.note={KEY}"], []),
        ([f"tags={{note: {KEY}}}"], []),
        ([KEY], []),
        ([], [f"ModelName={KEY}"]),
        ([], ["WANDB_API_KEY=x"]),
    ],
)
def test_a_key_is_refused_and_never_repeated(sets: list[str], params: list[str]) -> None:
    """Definitions and parameters are stored in the clear."""
    with pytest.raises(SettingError, match="holds a W&B key") as caught:
        resolve("classification", None, sets, params)
    assert KEY not in str(caught.value)


def test_a_key_in_a_preset_is_refused(tmp_path: Any) -> None:
    """A file of the user's own too."""
    preset = tmp_path / "p.yaml"
    preset.write_text(f"description: d\npipeline: classification\nsettings: {{tags: {{note: {KEY}}}}}\n")
    with pytest.raises(SettingError, match=r"preset .*settings\.tags\.note: holds a W&B key") as caught:
        resolve("classification", str(preset))
    assert KEY not in str(caught.value)


def test_a_commit_may_be_a_tag() -> None:
    """It has 40 hexadecimal digits as well."""
    resolve("classification", None, [f"tags.git_commit={KEY}"])
