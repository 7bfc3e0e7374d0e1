"""BIDS: label maps and masks of derivatives are joined, sessions share their patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medloop.errors import DataError, SettingError
from tests.unit.importing.volume_sources import (
    OPTIONS,
    bids,
    made,
    read,
    require_sound,
    run,
    save,
)


def test_bids_joins_label_maps_and_masks(tmp_path: Path) -> None:
    """dseg.tsv names the values; the label map has its voxels before the mask; sessions share their patient."""
    bids(tmp_path / "src")

    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, attributes=("sex", "age_group", "scanner")))

    assert (report.source, report.labels) == ("bids", ["Background", "grey", "white", "lesion"])
    assert report.num_patients == 3
    assert len(report.cases) == 6
    image, label = made(10 + ord("a"), (0, 3, 9))
    expected = np.where(image > 500, 3, 0)
    expected[label == 3], expected[label == 9] = 1, 2
    np.testing.assert_array_equal(read(tmp_path / "out", "sub-01_ses-a")[0][1], expected)
    rows = (tmp_path / "out/patients.csv").read_text().splitlines()
    assert rows[:2] == ["path,patient,age_group,sex", "sub-01_ses-a,sub-01,30-39,F"]
    assert rows[3].endswith("sub-02,90+,M")
    assert rows[5].endswith("sub-03,0-9,F")
    assert (
        "participants.tsv columns handedness are not imported; --attributes A,B names those that are" in report.warnings
    )
    assert any("overlap in" in text for case in report.cases for text in case.warnings)
    assert sum("template's space" in omission.reason for omission in report.left_out) == 6
    require_sound(tmp_path / "out", report)


def test_bids_with_several_images_of_a_session(tmp_path: Path) -> None:
    """--channel names the suffix."""
    bids(tmp_path / "src", ("T1w", "FLAIR"))
    with pytest.raises(SettingError, match=r"2 channels \(0 FLAIR, 1 T1w\)"):
        run(tmp_path / "src", tmp_path / "out")
    report = run(
        tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="FLAIR", labels=("bg", "white", "lesion"))
    )
    assert len(report.cases) == 6
    np.testing.assert_array_equal(read(tmp_path / "out", "sub-01_ses-a")[0][0], made(10 + ord("a"))[0] + 1)
    with pytest.raises(SettingError, match="--attributes weight: is no column; the table has age, sex, handedness"):
        run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="FLAIR", attributes=("weight",)))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("3\tgrey\n3\twhite", "dseg.tsv row 3: index 3 repeats row 2; remove one"),
        ("x\tgrey", "dseg.tsv row 2: column index is 'x'; write a label value"),
    ],
)
def test_a_wrong_table_of_names_is_refused_by_row(tmp_path: Path, rows: str, message: str) -> None:
    """Names of structures are never guessed."""
    bids(tmp_path / "src")
    (tmp_path / "src/derivatives/manual/dseg.tsv").write_text(f"index\tname\n{rows}\n")
    with pytest.raises(DataError) as caught:
        run(tmp_path / "src", tmp_path / "out")
    assert str(caught.value) == message


def test_series_over_time_without_a_label_dont_count(tmp_path: Path) -> None:
    """They need no channel, and are left out."""
    bids(tmp_path / "src")
    save(tmp_path / "src/sub-09/func/sub-09_bold.nii.gz", np.zeros((4, 4, 4, 7), np.int16))
    save(tmp_path / "src/sub-09/anat/sub-09.nii.gz", made(1)[0])
    derived = tmp_path / "src/derivatives/x/sub-01/anat/sub-01"
    for end in ("desc-preproc_T1w", "label-GM_probseg"):
        save(Path(f"{derived}_{end}.nii.gz"), made(1)[0])
    report = run(tmp_path / "src", tmp_path / "out")
    assert len(report.cases) == 6
    omissions = [(each.path, each.num_files) for each in report.left_out]
    assert ("sub-09/func/sub-09_bold.nii.gz", 1) in omissions
    assert ("sub-09/anat/sub-09.nii.gz", 1) in omissions
    assert ("derivatives/x/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz", 2) in omissions
