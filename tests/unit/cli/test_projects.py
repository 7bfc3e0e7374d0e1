"""Projects of runs and the model card of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medloop.cloud.layout import MAX_PROJECT, project_of
from medloop.commands.launch.data_defaults import data_defaults
from medloop.documents.file_names import CARD_FILE
from medloop.errors import SettingError
from medloop.input_data import data_version
from medloop.local.session import local_session
from medloop.samples.cards import CARDS, write_card
from medloop.settings import command_name, resolve, split_name
from tests.unit.cli.account import START


@pytest.fixture
def data(account: Any) -> str:
    """A data set on S3."""
    account.objects["s3://bucket/data/a.png"] = b"a"
    return "s3://bucket/data"


def started(account: Any) -> str:
    """The name of the pipeline that was started."""
    (request,) = [request for call, request in account.calls if call == "start"]
    return str(request["PipelineName"])


@pytest.mark.parametrize(
    ("options", "pipeline"),
    [
        ((), "classification-data"),
        (("--project", "skin"), "classification-skin"),
        (("--set", "project=skin"), "classification-skin"),
        (("--project", ""), "classification"),
    ],
)
def test_a_runs_project_is_the_data_sets_or_the_users(
    medloop: Any, account: Any, data: str, options: tuple[str, ...], pipeline: str
) -> None:
    """The pipeline that is put and started has its name."""
    assert medloop("run", "classification", "--data", data, *options, "--no-wait") == 0, medloop.err
    assert started(account) == pipeline


def test_on_aws_only_a_named_project_counts(medloop: Any, account: Any, data: str) -> None:
    """There the account's roles and rules name the pipelines: none appears by itself."""
    assert medloop("run", "classification", "--data", data, "--target", "aws", "--yes", "--no-wait") == 0, medloop.err
    assert started(account) == "classification"


@pytest.mark.parametrize("name", ["Skin", "a b", "x" * (MAX_PROJECT + 1), "-a", "a--b", "ä"])
def test_a_name_that_names_no_resource_is_refused(medloop: Any, account: Any, data: str, name: str) -> None:
    """In one line with a name that fits, before anything starts."""
    assert medloop("run", "classification", "--data", data, "--project", name) == 2
    line = medloop.err.splitlines()[-1]
    assert line.startswith("error: --project ")
    assert account.calls == []
    assert resolve("classification", project=line.rpartition("such as ")[2])


@pytest.mark.parametrize(
    ("folder", "project"),
    [
        ("/data/my-images", "my-images"), ("My Images/", "my-images"), ("s3://b/raw/Prostate_MR/", "prostate-mr"),
        ("Läsion 2", "lasion-2"), ("/", ""), ("数据", "data-"), ("a" * 23 + "-b", "a" * 17 + "-"), ("--x--", "x"),
        ("2024", "2024"), ("no", "no"), ("前列腺 CT", "ct-"),
    ],
)  # fmt: skip
def test_a_data_sets_name_becomes_a_projects(folder: str, project: str) -> None:
    """Lower case, digits, inner hyphens; a digest stands for what can't be written so."""
    name = project_of(folder)
    assert (name[: len(project)], len(name)) == (project, len(project) + 6 * project.endswith("-"))
    assert resolve("classification", project=name).group == "-".join(filter(None, ["medloop-classification", name]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("前列腺", "乳腺"),
        ("前列腺-ct", "乳腺-ct"),
        ("prostate-mr-2024-centre-alpha", "prostate-mr-2024-centre-beta"),
        ("простата", "печень"),
    ],
)
def test_data_sets_of_different_names_have_projects_of_their_own(first: str, second: str) -> None:
    """One model group for two organs would compare a model with the other organ's champion."""
    assert project_of(first)
    assert project_of(second)
    assert project_of(first) != project_of(second)
    for name in (first, second):
        assert resolve("classification", project=project_of(name)).group.endswith(f"-{project_of(name)}")


@pytest.mark.parametrize("name", ["2024", "no", "null", "1e5", "0x1f"])
def test_a_project_may_be_named_as_a_value_of_yaml(name: str) -> None:
    """On the command line a name is text."""
    assert resolve("classification", project=name).group == f"medloop-classification-{name}"


def test_names_on_a_target_are_read_back() -> None:
    """As arguments of a command."""
    assert split_name("segmentation-prostate-mr") == ("segmentation", "prostate-mr")
    assert split_name("segmentation") == ("segmentation", "")
    assert split_name("other") is None
    assert command_name("segmentation-prostate-mr") == "segmentation --project prostate-mr"


def settings_of(folder: Path, preset: str | None = None, sets: tuple[str, ...] = ()) -> Any:
    """The settings of a run on a folder."""
    return resolve("segmentation", preset, sets, data=data_defaults(str(folder))).settings


def test_a_data_sets_card_fills_in_the_models(tmp_path: Path) -> None:
    """It speaks of these data alone: a preset has none, and --set wins."""
    write_card(tmp_path, "brain-tissue")
    settings = settings_of(tmp_path, "brain-tissue-demo", ("registration.annotators=two readers",))
    assert settings.registration.missing_fields == ()
    assert settings.registration.annotators == "two readers"
    assert settings.registration.population == CARDS["brain-tissue"]["population"]
    assert settings.evaluate.note == CARDS["brain-tissue"]["note"]
    (tmp_path / CARD_FILE).unlink()
    assert len(settings_of(tmp_path, "brain-tissue-demo").registration.missing_fields) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"approval_status: Approved", "approval_status: no such setting"),
        (b"populaton: adults", "did you mean population"),
        (b"population: [1", "line 1"),
        (b"- a", "must be a mapping"),
        (b"population: " + b"x" * 3000, "population"),
        (b"population: 3", "population"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"a: &a [1]\nb: *a", "aliases"),
        (b"x" * 1_000_000, "too many"),
    ],
)
def test_a_card_that_is_none_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    """One line with the file; a data set can't approve its own model."""
    (tmp_path / CARD_FILE).write_bytes(content)
    with pytest.raises(SettingError, match=message) as caught:
        settings_of(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / CARD_FILE))
    assert "\n" not in str(caught.value)


def test_a_changed_card_trains_nothing_again() -> None:
    """DataVersion is that of the data."""

    class Pages:
        def __init__(self, names: list[str]) -> None:
            self.names = names

        def get_paginator(self, _: str) -> Any:
            return self

        def paginate(self, **_: str) -> Any:
            return [
                {
                    "Contents": [
                        {"Key": f"d/{name}", "Size": 1, "ETag": "e", "LastModified": START} for name in self.names
                    ]
                }
            ]

    plain: Any = Pages(["a.png"])
    with_card: Any = Pages(["a.png", CARD_FILE])
    assert data_version(plain, "s3://b/d/") == data_version(with_card, "s3://b/d/")


@pytest.mark.parametrize(
    ("unit", "sets", "code"),
    [
        ("unknown", ("evaluate.surface_tolerance_mm=1",), 2),
        ("unknown", ("evaluate.surface_tolerance_mm=1", "evaluate.length_unit=mm"), 0),
        ("mm", ("evaluate.surface_tolerance_mm=1",), 0),
        ("unknown", (), 0),
    ],
)
def test_a_tolerance_without_a_unit_is_refused_before_a_job_starts(
    medloop: Any, tmp_path: Path, unit: str, sets: tuple[str, ...], code: int
) -> None:
    """With a subject and the settings; a volume without unit is no problem otherwise."""
    for number in range(3):
        (tmp_path / f"set/s{number}").mkdir(parents=True)
        voxels = np.random.default_rng(number).integers(0, 100, (8, 8, 8)).astype(np.int16)
        for name, values in {"img": voxels, "label": (voxels > 50).astype(np.uint8)}.items():
            image = nib.Nifti1Image(values, np.eye(4))
            image.header.set_xyzt_units(unit)
            nib.save(image, tmp_path / f"set/s{number}/{name}.nii.gz")
    options = [part for text in sets for part in ("--set", text)]
    assert medloop("run", "segmentation", "--data", str(tmp_path / "set"), *options, "--dry-run") == code, medloop.err
    if code:
        assert "s0 states no unit of lengths" in medloop.err.splitlines()[-1]


@pytest.mark.parametrize("text", ["", "\n\n", "# to be written\n", "---\n", "\ufeff"])
def test_an_empty_card_is_none(tmp_path: Path, text: str) -> None:
    """A file that was only made is no reason to stop."""
    (tmp_path / "model-card.yaml").write_text(text, encoding="utf-8")
    assert data_defaults(str(tmp_path), is_project=False).settings == {}


def test_a_card_of_data_on_s3_is_read(tmp_path: Path) -> None:
    """One small object; without one, or without access, there is no card."""
    s3 = local_session(tmp_path).client("s3")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="mr/a.txt", Body=b"a")
    assert data_defaults("s3://data/mr/", is_project=False, s3=s3).settings == {}
    s3.put_object(Bucket="data", Key="mr/model-card.yaml", Body=b"population: Adults with MR\nnote: test\n")
    expected = {"registration": {"population": "Adults with MR"}, "evaluate": {"note": "test"}}
    assert data_defaults("s3://data/mr", is_project=False, s3=s3).settings == expected
    assert data_defaults("s3://data/mr", is_project=False).settings == {}
    s3.put_object(Bucket="data", Key="mr/model-card.yaml", Body=b"poulation: x\n")
    with pytest.raises(SettingError, match=r"s3://data/mr/model-card\.yaml"):
        data_defaults("s3://data/mr", is_project=False, s3=s3)
