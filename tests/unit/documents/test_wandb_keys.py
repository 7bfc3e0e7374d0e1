"""Keys of W&B are refused where anyone could read them, and never repeated."""

from __future__ import annotations

import pytest

from medloop.documents.hyperparameters import ClassificationHyperparameters
from medloop.documents.wandb_keys import refuse_keys
from medloop.errors import SettingError
from medloop.training.tracking.secrets import wandb_key

HEX = "0123456789abcdef" * 2 + "01234567"
NEW = "wandb_v1_Abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize(
    "values",
    [
        {"note": HEX},
        {"note": HEX.upper()},
        {"note": f"key={HEX} "},
        {"note": f"local-{HEX}"},
        {"note": NEW},
        {"wandb_api_key": "anything"},
        {"WANDB-API-KEY": "anything"},
        {"wandb_key": "anything"},
        {"train": {"labels": ["a", HEX]}},
        {"packed": f'{{"inner": "{HEX}"}}'},
        {HEX: 1},
    ],
)
def test_keys_are_refused_by_form_and_by_name(values: dict[str, object]) -> None:
    """The message says where the key belongs, and doesn't hold it."""
    with pytest.raises(SettingError, match="Secrets Manager") as caught:
        refuse_keys(values, "setting")
    assert HEX not in str(caught.value)
    assert "anything" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"wandb_secret": "team/wandb", "tags": {"git_commit": HEX}},
        {"DataVersion": HEX, "digest": HEX + HEX[:24]},
        {"wandb_api_key": ""},
        {"note": HEX[:-1]},
        {"model_name": "resnet18", "epochs": 3, "labels": None},
    ],
)
def test_what_is_no_key_passes(values: dict[str, object]) -> None:
    """Git commits and digests are 40 or 64 hexadecimal digits too."""
    refuse_keys(values, "setting")


@pytest.mark.parametrize("wire", [{"wandb_api_key": "x"}, {"model_name": HEX}])
def test_a_job_refuses_a_key_among_its_hyperparameters(wire: dict[str, str]) -> None:
    """By hand, or from a definition of someone else's."""
    with pytest.raises(SettingError, match=r"hyperparameter .* holds a W&B key") as caught:
        ClassificationHyperparameters.from_wire(wire)
    assert HEX not in str(caught.value)


@pytest.mark.parametrize("value", ["[" * 2000, "[" * 900 + "]" * 900, '{"a":' * 5000, "[" * 100_000 + "]" * 100_000])
def test_a_value_that_is_nested_too_deeply_is_named(value: str) -> None:
    """It would be a traceback of the parser, or of the search for keys."""
    with pytest.raises(SettingError, match="hyperparameter epochs"):
        ClassificationHyperparameters.from_wire({"model_name": '"resnet18"', "epochs": value})


def test_the_key_comes_from_the_environment_then_from_the_secret() -> None:
    """The variable takes precedence; without either there is no key and no request."""
    requested: list[str] = []

    def fetch(name: str) -> str:
        requested.append(name)
        return " s3cret\n"

    both = {"WANDB_API_KEY": HEX, "MEDLOOP_WANDB_SECRET": "team/wandb"}
    assert wandb_key(both, fetch) == HEX
    assert wandb_key({}, fetch) is None
    assert requested == []
    assert wandb_key({"MEDLOOP_WANDB_SECRET": "team/wandb"}, fetch) == "s3cret"
    assert requested == ["team/wandb"]
