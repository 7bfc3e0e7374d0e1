"""nnU-Net and the Decathlon: imported voxels, geometry and labels are those of the layout's own reader."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medloop.errors import DataError, SettingError
from medloop.imaging.validation import check_dataset
from tests.unit.importing.volume_sources import (
    AFFINE,
    OPTIONS,
    SHAPE,
    V1,
    V2,
    decathlon,
    made,
    nnunet,
    read,
    require_sound,
    run,
    save,
)


@pytest.mark.parametrize(
    ("labels", "end"), [(V1, ".nii.gz"), (V2, ".nii.gz"), (V2, ".nrrd"), (V1, ".mha"), (V2, ".nii")]
)
def test_nnunet_of_both_versions(tmp_path: Path, labels: dict[str, Any], end: str) -> None:
    """Of several channels the chosen one; names are by value, background first; test images without labels stay out."""
    nnunet(tmp_path / "src", labels, end)

    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="flair"))

    assert report.source == "nnunet"
    assert report.labels == ["background", "liver", "tumour"]
    assert [case.name for case in report.cases] == ["case_0", "case_1", "case_2"]
    assert "imagesTs/case_9_0000" in report.left_out[0].path
    assert "has no channel 1" in report.left_out[0].reason
    for index in range(3):
        image, label = made(index)
        (voxels, labels_), affine = read(tmp_path / "out", f"case_{index}")
        np.testing.assert_array_equal(voxels, image[::-1])
        np.testing.assert_array_equal(labels_, label)
        np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    require_sound(tmp_path / "out", report)


def test_files_are_linked_and_a_second_import_writes_nothing(tmp_path: Path) -> None:
    """The bytes stay where they are; a changed label is imported again."""
    nnunet(tmp_path / "src", V2)
    options = replace(OPTIONS, channel="0")
    first = run(tmp_path / "src", tmp_path / "out", options)
    assert os.path.samefile(tmp_path / "out/case_0/img.nii.gz", tmp_path / "src/imagesTr/case_0_0000.nii.gz")
    assert os.path.samefile(tmp_path / "out/case_0/label.nii.gz", tmp_path / "src/labelsTr/case_0.nii.gz")
    (tmp_path / "src/labelsTr/case_1.nii.gz").unlink()
    save(tmp_path / "src/labelsTr/case_1.nii.gz", made(77)[1])

    second = run(tmp_path / "src", tmp_path / "out", options)

    assert [case.is_new for case in first.cases] == [True, True, True]
    assert [case.is_new for case in second.cases] == [False, True, False]
    np.testing.assert_array_equal(read(tmp_path / "out", "case_1")[0][1], made(77)[1])


def test_several_channels_are_refused_by_name(tmp_path: Path) -> None:
    """Until one is chosen; an unknown one is refused, too."""
    nnunet(tmp_path / "src", V2)
    with pytest.raises(SettingError, match=r"--channel: the images have 2 channels \(0 T1, 1 FLAIR\); choose one"):
        run(tmp_path / "src", tmp_path / "out")
    with pytest.raises(SettingError, match=r"T2 is no channel \(0 T1, 1 FLAIR\)"):
        run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="T2"))


def test_gaps_are_renumbered_and_stated(tmp_path: Path) -> None:
    """Values without a voxel have no name; the others are numbered in their order, on the label's own grid."""
    nnunet(tmp_path / "src", {"background": 0, "a": 2, "b": 3, "c, d": 700}, values=(0, 2, 700))

    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="0"))

    assert report.labels == ["background", "a", "c d"]
    assert "label values are renumbered without gaps: 2 (a) is 1, 700 (c d) is 2" in report.warnings
    assert "no label has b (3): left out of the names" in report.warnings
    label = made(1, (0, 2, 700))[1]
    (_, labels), affine = read(tmp_path / "out", "case_1")
    np.testing.assert_array_equal(labels, np.select([label == 2, label == 700], [1, 2], 0))
    np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    require_sound(tmp_path / "out", report)


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (None, ("background", "tumour"), (0, 0, 1)),
        (None, ("background", "tumour", "liver"), (0, 2, 1)),
        (None, ("background", "a", "b"), (0, 1, 2)),
    ],
)
def test_the_users_names_choose_and_order(
    tmp_path: Path, labels: object, names: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    """Names of the source choose its structures; other names, as many as there are, rename them."""
    nnunet(tmp_path / "src", V2)
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="0", labels=names))
    assert report.labels == list(names)
    np.testing.assert_array_equal(read(tmp_path / "out", "case_0")[0][1], np.array(expected)[made(0)[1]])
    require_sound(tmp_path / "out", report)


def test_voxels_to_ignore_keep_a_case_out(tmp_path: Path) -> None:
    """The other cases are imported."""
    nnunet(tmp_path / "src", {**V2, "ignore": 3})
    save(tmp_path / "src/labelsTr/case_1.nii.gz", made(1, (0, 1, 2, 3))[1])
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="0"))
    assert [case.name for case in report.cases] == ["case_0", "case_2"]
    assert any("has voxels to ignore (label value 3)" in omission.reason for omission in report.left_out)
    require_sound_cases = check_dataset(tmp_path / "out", "segmentation", report.labels)
    assert len(require_sound_cases.cases) == 2


def test_a_labelled_test_set_stays_the_test_split(tmp_path: Path) -> None:
    """ImagesTs with labelsTs."""
    nnunet(tmp_path / "src", V2)
    for index in (20, 21):
        image, label = made(index)
        save(tmp_path / f"src/imagesTs/case_{index}_0000.nii.gz", image)
        save(tmp_path / f"src/labelsTs/case_{index}.nii.gz", label)
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="0"))
    assert [case.name for case in report.cases if case.name.startswith("test")] == ["test/case_20", "test/case_21"]
    assert [case.name for case in report.cases if case.name.startswith("train")] == [
        f"train/case_{n}" for n in range(3)
    ]
    require_sound(tmp_path / "out", report)


@pytest.mark.parametrize(("num_channels", "chosen", "number"), [(1, "", 0), (4, "t1gd", 2), (4, "3", 3)])
def test_decathlon(tmp_path: Path, num_channels: int, chosen: str, number: int) -> None:
    """A channel's voxels are copied bit by bit out of the fourth axis."""
    decathlon(tmp_path / "src", num_channels)
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel=chosen))
    assert (report.source, report.labels) == ("decathlon", ["background", "liver", "tumour"])
    for index in range(3):
        source = nib.load(tmp_path / f"src/imagesTr/brats_{index}.nii.gz")  # type: ignore[attr-defined]
        expected = np.asanyarray(source.dataobj)
        (voxels, label), affine = read(tmp_path / "out", f"brats_{index}")
        np.testing.assert_array_equal(voxels, expected[..., number] if num_channels > 1 else expected)
        np.testing.assert_array_equal(label, made(index)[1])
        np.testing.assert_array_equal(affine, source.affine)
    require_sound(tmp_path / "out", report)


def test_channels_of_a_decathlon_are_named(tmp_path: Path) -> None:
    """In the one line that refuses."""
    decathlon(tmp_path / "src", 4)
    with pytest.raises(SettingError, match=r"4 channels \(0 FLAIR, 1 T1w, 2 t1gd, 3 T2w\)"):
        run(tmp_path / "src", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"1": "liver"', '"1": "liver", "1": "lung"'), "key '1' is there twice; correct it"),
        (lambda text: text.replace('"2": "tumour"', '"02": "tumour", "2": "x"'), "labels: value 2 has two names"),
        (lambda text: text[:-5], "dataset.json: "),
        (
            lambda text: text.replace('{"0": "background"', '[{"0": "background"').replace('"tumour"}', '"tumour"}]'),
            "labels: is no object",
        ),
        (lambda text: "[" * 100000, "is nested too deeply"),
        (lambda text: text.replace('"2": "tumour"', f'"{"9" * 5000}": "tumour"'), "labels: '99999"),
        (lambda text: text.replace('"2": "tumour"', '"tumour": -2'), "labels: 'tumour' is -2; write a label value"),
    ],
)
def test_a_broken_dataset_json_is_refused_by_field(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    """Names of structures are never guessed."""
    decathlon(tmp_path / "src", 1)
    path = tmp_path / "src/dataset.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(DataError) as caught:
        run(tmp_path / "src", tmp_path / "out")
    assert message in str(caught.value)


def test_what_dataset_json_lists_and_counts_is_compared(tmp_path: Path) -> None:
    """A wrong count is a warning; paths that leave the source, or name nothing, a line each."""
    decathlon(tmp_path / "src", 1)
    path = tmp_path / "src/dataset.json"
    described = json.loads(path.read_text())
    described["numTraining"] = 40
    described["training"] += [
        {"image": "../../x.nii.gz", "label": "../../etc/passwd"},
        {"image": "/etc/hosts", "label": "/etc/passwd"},
        {"image": "./imagesTr/no.nii.gz", "label": "./labelsTr/no.nii.gz"},
    ]
    path.write_text(json.dumps(described))
    report = run(tmp_path / "src", tmp_path / "out")
    assert len(report.cases) == 3
    assert [omission.reason for omission in report.left_out] == [
        "training 4: its label contains .., and paths are in the source; correct it",
        "training 5: its label is outside of the source; give the folder that contains it",
        "training 6: its label isn't there; add it or remove the entry",
    ]
    assert "dataset.json numTraining: is 40, and the folders have 3 images with labels" in report.warnings[0]


def _truncate(root: Path) -> None:
    path = root / "labelsTr/brats_1.nii.gz"
    path.write_bytes(path.read_bytes()[:200])


def _link_out(root: Path) -> None:
    shutil.move(root / "labelsTr/brats_1.nii.gz", root.parent / "outside.nii.gz")
    (root / "labelsTr/brats_1.nii.gz").symlink_to(root.parent / "outside.nii.gz")


def _other_grid(root: Path) -> None:
    save(root / "labelsTr/brats_1.nii.gz", np.ones((3, 3, 3), np.uint8))


def _probabilities(root: Path) -> None:
    save(root / "labelsTr/brats_1.nii.gz", np.random.default_rng(1).random(SHAPE).astype(np.float32))


def _nan(root: Path) -> None:
    save(root / "imagesTr/brats_1.nii.gz", np.full(SHAPE, np.nan, np.float32))


def _huge(root: Path) -> None:
    path = root / "imagesTr/brats_1.nii.gz"
    header = nib.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    path.write_bytes(header.binaryblock + bytes(100))


def _missing_label(root: Path) -> None:
    (root / "labelsTr/brats_1.nii.gz").unlink()


def _missing_image(root: Path) -> None:
    (root / "imagesTr/brats_1.nii.gz").unlink()


def _not_utf8(root: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        os.rename(root / folder / "brats_1.nii.gz", os.fsencode(root / folder) + b"/M\xfcller.nii.gz")


def _pipe_of_an_image(root: Path) -> None:
    (root / "imagesTr/brats_1.nii.gz").unlink()
    os.mkfifo(root / "imagesTr/brats_1.nii.gz")


def _pipe(root: Path) -> None:
    (root / "labelsTr/brats_1.nii.gz").unlink()
    os.mkfifo(root / "labelsTr/brats_1.nii.gz")


@pytest.mark.parametrize(
    ("damage", "path", "message"),
    [
        (_truncate, "labelsTr/brats_1.nii.gz", "is truncated or damaged"),
        (_link_out, "labelsTr/brats_1.nii.gz", "is a link that leads out of the source"),
        (_other_grid, "labelsTr/brats_1.nii.gz", "has shape (3, 3, 3) where its image has (6, 7, 5)"),
        (_probabilities, "labelsTr/brats_1.nii.gz", "that are no whole numbers; it is a map of probabilities"),
        (_nan, "imagesTr/brats_1.nii.gz", "NaN or infinite"),
        (_huge, "imagesTr/brats_1.nii.gz", "its header specifies"),
        (_missing_label, "imagesTr/brats_1.nii.gz", "has no label; add one"),
        (_missing_image, "labelsTr/brats_1.nii.gz", "is a label without an image"),
        (_not_utf8, "labelsTr/M\\udcfcller.nii.gz", "its name is not in UTF-8"),
        (_pipe_of_an_image, "imagesTr/brats_1.nii.gz", "is no regular file"),
        (_pipe, "labelsTr/brats_1.nii.gz", "is no regular file"),
    ],
)
def test_a_bad_case_doesnt_stop_the_others(
    tmp_path: Path, damage: Callable[[Path], None], path: str, message: str
) -> None:
    """One line with file and reason."""
    decathlon(tmp_path / "src", 1)
    damage(tmp_path / "src")
    report = run(tmp_path / "src", tmp_path / "out")
    assert [case.name for case in report.cases] == ["brats_0", "brats_2"]
    lines = [omission for omission in report.left_out if not omission.reason.startswith("training")]
    assert [omission.path for omission in lines] == [path]
    assert message in lines[0].reason
    assert len(check_dataset(tmp_path / "out", "segmentation", report.labels).cases) == 2


def test_files_that_are_in_no_case_are_named(tmp_path: Path) -> None:
    """Images without a channel's number, and other formats."""
    nnunet(tmp_path / "src", V2)
    save(tmp_path / "src/imagesTr/case_7.nii.gz", made(7)[0])
    (tmp_path / "src/imagesTr/case_8_0000.mnc").write_bytes(b"x")
    (tmp_path / "src/imagesTr/readme.txt").write_bytes(b"x")
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="0"))
    reasons = {each.path: each.reason for each in report.left_out}
    assert reasons["imagesTr/case_7.nii.gz"] == "has no channel in its name; rename it CASE_0000"
    assert reasons["imagesTr/case_8_0000.mnc"] == "is in a format that isn't imported; convert or remove it"
    assert len(reasons) == 3


def test_patients_of_a_challenge(tmp_path: Path) -> None:
    """A patients.csv next to dataset.json names cases, or images; a case without a row stays out."""
    nnunet(tmp_path / "src", V2)
    (tmp_path / "src/patients.csv").write_text("path,patient\ncase_0,A\nimagesTr/case_1_0000.nii.gz,\u00a0A\n")
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="0"))
    assert (tmp_path / "out/patients.csv").read_text() == "path,patient\ncase_0,A\ncase_1,A\n"
    assert [(each.path, each.reason) for each in report.left_out if "case_2" in each.path] == [
        ("imagesTr/case_2_0000.nii.gz", "has no row in patients.csv; add one")
    ]
    (tmp_path / "src/patients.csv").write_text("path,patient\ncase_0,\n")
    with pytest.raises(DataError, match=r"patients.csv: row 2: column patient is empty"):
        run(tmp_path / "src", tmp_path / "out2", replace(OPTIONS, channel="0"))


def test_links_inside_the_source_are_followed(tmp_path: Path) -> None:
    """Files in git-annex are links to names without a suffix; the data set has the content, not the link."""
    decathlon(tmp_path / "src", 4)
    (tmp_path / "src/.git/annex").mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "src").glob("*Tr/*.nii.gz"))):
        path.rename(tmp_path / f"src/.git/annex/{number}")
        path.symlink_to(f"../.git/annex/{number}")
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="1"))
    assert len(report.cases) == 3
    assert not (tmp_path / "out/brats_0/label.nii.gz").is_symlink()
    np.testing.assert_array_equal(read(tmp_path / "out", "brats_2")[0][1], made(2)[1])
    require_sound(tmp_path / "out", report)
