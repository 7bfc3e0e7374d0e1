"""Settings of the deployment: where they come from, and what is refused, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import FILE, Settings, load_settings
from medloop.errors import SettingError

CI = "arn:aws:iam::111122223333:role/ci"


def test_the_file_gives_the_defaults() -> None:
    """infra/settings.yaml shows what can be chosen, and chooses nothing else than the defaults."""
    assert load_settings({}, {}) == Settings()


def test_environment_lies_over_the_file_and_context_over_both(tmp_path: Path) -> None:
    """One value at a time."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "storage: {checkpoints_days: 5, old_versions_days: 6, logs_days: 365}\nnetwork:\n", encoding="utf-8"
    )
    environment = {
        "MEDLOOP_INFRA_SETTINGS": str(path),
        "MEDLOOP_INFRA_STORAGE__OLD_VERSIONS_DAYS": "7",
        "MEDLOOP_INFRA_STORAGE__LOGS_DAYS": "731",
        "MEDLOOP_BUCKET": "others",
    }
    storage = load_settings({"storage.logs_days": "1096", "@aws-cdk/core:flag": True}, environment).storage
    assert (storage.checkpoints_days, storage.old_versions_days, storage.logs_days) == (5, 7, 1096)
    assert load_settings({"settings": str(FILE)}, environment).storage.checkpoints_days == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("network: {vpcs: true}", r"mine\.yaml: network\.vpcs: there is no such setting"),
        ("networks: {vpc: true}", r"mine\.yaml: networks: there is no such setting"),
        ("network: true", r"mine\.yaml: network: is no mapping"),
        ("- network", r"mine\.yaml: is no mapping"),
        ("storage: {checkpoints_days: 0}", r"mine\.yaml: storage\.checkpoints_days: .*greater than or equal to 1"),
        ("access: {approvers: [someone]}", r"mine\.yaml: access\.approvers\.0: .*pattern"),
        ("storage: {logs_days: 100}", r"mine\.yaml: storage\.logs_days: "),
        ("tracking: {mlflow: serverless}", r"mine\.yaml: tracking\.mlflow: serverless has no VPC endpoint; choose"),
        (
            f"access: {{publishers: [{CI}], engineers: [{CI}]}}",
            rf"mine\.yaml: access: publishers: {CI} is one of the engineers too; name it",
        ),
        ("network: {vpc: [", r"mine\.yaml: line 1: "),
    ],
)
def test_wrong_settings_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """The file and the field are named."""
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=message) as caught:
        load_settings({"settings": str(path)}, {})
    assert "\n" not in str(caught.value)


def test_the_source_of_a_wrong_value_is_named() -> None:
    """A variable, or an option."""
    with pytest.raises(SettingError, match=r"^MEDLOOP_INFRA_NETWORK__VPC: network\.vpc: "):
        load_settings({}, {"MEDLOOP_INFRA_NETWORK__VPC": "perhaps"})
    with pytest.raises(SettingError, match=r"^-c storage\.logs_days: storage\.logs_days: "):
        load_settings({"storage.logs_days": "3"}, {})
    with pytest.raises(SettingError, match=r"absent\.yaml: can't be read \(FileNotFoundError\)"):
        load_settings({"settings": "absent.yaml"}, {})


@pytest.mark.slow
def test_the_app_ends_with_one_line_and_code_2() -> None:
    """As CDK's command line shows it."""
    environment = {**os.environ, "MEDLOOP_INFRA_NETWORK__CIDRS": "10.0.0.0/8"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.app"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: MEDLOOP_INFRA_NETWORK__CIDRS: network.cidrs: there is no such setting")
    assert len(done.stderr.splitlines()) == 1
