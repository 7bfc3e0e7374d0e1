"""What settings of jobs refuse by themselves, before anything is built."""

from __future__ import annotations

import pytest

from medloop.errors import SettingError
from medloop.settings import resolve
from steps.network import NetworkSettings

KEY = "12345678-1234-1234-1234-123456789012"


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (["train.spot=true", "train.keep_alive_minutes=5"], "exclude each other"),
        (["train.spot=true", "train.mode=script"], "spot needs mode=container"),
        (["train.instance_count=2"], "instance_count=2 needs hyperparameters.strategy=ddp or fsdp"),
        (["train.max_wait_minutes=5000"], "is for spot"),
        (["train.spot=true", "train.max_wait_minutes=10"], "at least max_runtime_minutes"),
        (["train.pip_cache=true"], "needs mode=script and keep_alive_minutes"),
        (["train.pip_cache=true", "train.mode=script"], "needs mode=script and keep_alive_minutes"),
        (["train.keep_alive_minutes=361"], "less than or equal to 360"),
        (["network.subnets=[subnet-0123456789abcdef0]"], "together or not at all"),
        (["network.security_group_ids=[sg-0123456789abcdef0]"], "together or not at all"),
        (["network.subnets=[10.0.0.0/24]"], "network.subnets"),
        (["network.kms_key=alias/medloop"], "network.kms_key"),
        (["split.layout=link"], "split.layout"),
    ],
)
def test_what_excludes_itself_is_refused_by_name(sets: list[str], reason: str) -> None:
    """AWS would refuse these when the job starts, or take them and do something else."""
    with pytest.raises(SettingError, match=reason):
        resolve("classification", None, sets)


def test_several_machines_need_a_strategy_for_them() -> None:
    """Also where their number is chosen at the start; ddp and fsdp take any."""
    with pytest.raises(SettingError, match=r"TrainInstanceCount=2: .* needs hyperparameters\.strategy=ddp or fsdp"):
        resolve("classification", None, [], ["TrainInstanceCount=2"])
    for strategy in ("ddp", "fsdp"):
        sets = ["train.instance_count=2", f"train.hyperparameters.strategy={strategy}"]
        assert resolve("segmentation", None, sets).settings.train.instance_count == 2


@pytest.mark.parametrize(
    ("instance", "has_own_disk"),
    [
        ("ml.m5.xlarge", False),
        ("ml.p3.2xlarge", False),
        ("ml.r5.large", False),
        ("ml.c6i.large", False),
        ("ml.m5d.xlarge", True),
        ("ml.g4dn.xlarge", True),
        ("ml.g5.xlarge", True),
        ("ml.g6e.xlarge", True),
        ("ml.p3dn.24xlarge", True),
        ("ml.p4d.24xlarge", True),
        ("ml.p4de.24xlarge", True),
        ("ml.p5.48xlarge", True),
        ("ml.trn1.32xlarge", True),
    ],
)
def test_a_machine_with_a_disk_of_its_own_takes_no_key(instance: str, has_own_disk: bool) -> None:
    """The service refuses VolumeKmsKeyId there; the disk's hardware encrypts it."""
    assert NetworkSettings(kms_key=KEY).volume_key(instance) == (None if has_own_disk else KEY)


@pytest.mark.parametrize(
    "key", [KEY, f"arn:aws:kms:eu-west-1:123456789012:key/{KEY}", "mrk-0123456789abcdef0123456789abcdef"]
)
def test_keys_are_taken_by_id_and_by_arn(key: str) -> None:
    """Also those of several regions."""
    assert NetworkSettings(kms_key=key).kms_key == key
