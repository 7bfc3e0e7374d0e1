"""The SDK's configuration, which it checks at each look-up of a value: once is enough."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from medloop.cloud.target import Target
from medloop.settings import resolve

pytestmark = pytest.mark.slow
OPTED_OUT: dict[str, Any] = {
    "SchemaVersion": "1.0",
    "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}},
}
KEY = "SageMaker.PythonSDK.Modules.TelemetryOptOut"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Receive each configuration that jsonschema checks."""
    configurations: list[Any] = []
    validate = jsonschema.validate

    def keep(instance: Any, schema: Any, *more: Any, **options: Any) -> None:
        configurations.append(instance)
        validate(instance, schema, *more, **options)

    monkeypatch.setattr(jsonschema, "validate", keep)
    return configurations


def look_up(target: Target, configuration: dict[str, Any]) -> Any:
    """A value of a session's configuration, as the SDK reads it in a build."""
    from sagemaker.core.common_utils import get_sagemaker_config_value

    session = target.pipeline_session()
    session.sagemaker_config = configuration
    return get_sagemaker_config_value(session, KEY)


def test_an_equal_configuration_is_checked_once(target: Target, checked: list[Any]) -> None:
    """In all sessions; the value is that of the configuration at hand."""
    tags = {"SageMaker": {**OPTED_OUT["SageMaker"], "Model": {"Tags": [{"Key": "a", "Value": "once"}]}}}
    first, equal = {**OPTED_OUT, **tags}, {**OPTED_OUT, **tags}
    assert look_up(target, first) is look_up(target, first) is look_up(target, equal) is True
    assert checked == [first]
    equal["SageMaker"] = {"PythonSDK": {"Modules": {"TelemetryOptOut": False}}}
    assert look_up(target, equal) is False
    assert checked == [first, equal]


def test_a_configuration_that_was_changed_is_checked_again(target: Target, checked: list[Any]) -> None:
    """The object may be the same; an unsound one is refused each time."""
    configuration = {**OPTED_OUT, "CustomParameters": {"note": "changes"}}
    assert look_up(target, configuration) is True
    configuration["SchemaVersion"] = "9.9"
    for _ in range(2):
        with pytest.raises(jsonschema.ValidationError, match=r"9\.9"):
            look_up(target, configuration)
    assert len(checked) == 3


def test_a_build_checks_its_configuration_at_most_once(target: Target, checked: list[Any]) -> None:
    """With a step whose look-ups are many."""
    resolved = resolve("segmentation", None, ["tune.enabled=true"])
    resolved.spec.build(resolved.settings, target).definition()
    assert len(checked) <= 1
