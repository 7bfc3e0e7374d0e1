"""`medloop schedules` refuses, before anything is made, what would start nothing later."""

from __future__ import annotations

from typing import Any

CREATE = ("schedules", "create", "weekly", "--pipeline", "classification", "--when", "rate(7 days)", "--data")


def test_data_of_this_machine_is_refused(medloop: Any) -> None:
    """It may be gone when the schedule fires."""
    assert medloop(*CREATE, "data/images") == 2
    assert "--data data/images: a schedule needs data on S3; give s3://" in medloop.err


def test_a_pipeline_that_is_not_there_is_refused_with_the_command_that_puts_it(medloop: Any) -> None:
    """Each start would fail."""
    assert medloop(*CREATE, "s3://bucket/data") == 2
    assert "`medloop pipelines upsert classification` first" in medloop.err


def test_a_parameter_out_of_range_is_refused(medloop: Any) -> None:
    """As `run` refuses it."""
    assert medloop(*CREATE, "s3://bucket/data", "--param", "Epochs=0") == 2
    assert "--param Epochs=0" in medloop.err
