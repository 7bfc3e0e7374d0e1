"""Layouts of volumes with label maps: imported voxels, geometry and labels are those of the layout's own reader."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medloop.documents.import_report import ImportReport
from medloop.errors import DataError, SettingError
from medloop.imaging.validation import check_dataset
from medloop.importing.cases import ImportOptions
from medloop.importing.run_import import import_data

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
OPTIONS = ImportOptions(key=b"k" * 32)
AFFINE = np.array([[0.0, -1.5, 0.1, 10.0], [1.2, 0.0, 0.0, -20.0], [0.0, 0.2, 3.0, 30.0], [0.0, 0.0, 0.0, 1.0]])
SHAPE = (6, 7, 5)


def made(seed: int, values: Sequence[int] = (0, 1, 2)) -> Arrays:
    """An image of noise, and a label in which all the values occur."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.resize(np.array(values, np.uint16), SHAPE).ravel()).reshape(SHAPE)
    return rng.integers(-1000, 1000, SHAPE).astype(np.int16), label


def save(path: Path, voxels: np.ndarray[Any, Any]) -> None:
    """A NIfTI file, or another that SimpleITK writes with the same geometry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(voxels, AFFINE), path)
        return
    image = SimpleITK.GetImageFromArray(voxels.transpose(2, 1, 0))
    lps = np.diag([-1, -1, 1, 1]) @ AFFINE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=path.suffix == ".nrrd")


def run(source: Path, target: Path, options: ImportOptions = OPTIONS) -> ImportReport:
    """Import a source."""
    return import_data(source, target, options)


def read(target: Path, name: str) -> tuple[Arrays, np.ndarray[Any, Any]]:
    """Image, label and affine of an imported case, by nibabel."""
    files = [next((target / name).glob(f"{stem}.nii*")) for stem in ("img", "label")]
    image, label = (nib.load(file) for file in files)  # type: ignore[attr-defined]
    np.testing.assert_allclose(image.affine, label.affine, atol=1e-4)
    return (np.asanyarray(image.dataobj), np.asanyarray(label.dataobj)), image.affine


def require_sound(target: Path, report: ImportReport) -> None:
    """`data check` has no problem."""
    checked = check_dataset(target, report.task, report.labels or None)
    assert [problem.line for problem in checked.problems] == []
    assert len(checked.cases) == len(report.cases)


def nnunet(root: Path, labels: dict[str, Any], end: str = ".nii.gz", values: Sequence[int] = (0, 1, 2)) -> None:
    """Three cases with two channels."""
    for index in range(3):
        image, label = made(index, values)
        save(root / f"imagesTr/case_{index}_0000{end}", image)
        save(root / f"imagesTr/case_{index}_0001{end}", image[::-1].copy())
        save(root / f"labelsTr/case_{index}{end}", label)
    save(root / f"imagesTs/case_9_0000{end}", made(9)[0])
    described = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": labels, "numTraining": 3, "file_ending": end}
    (root / "dataset.json").write_text(json.dumps(described))


V1 = {"0": "background", "1": "liver", "2": "tumour"}
V2 = {"background": 0, "liver": 1, "tumour": 2}


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


def decathlon(root: Path, num_channels: int) -> None:
    """Three cases of 4D images."""
    for index in range(3):
        image, label = made(index)
        channels = [image + number for number in range(num_channels)]
        save(root / f"imagesTr/brats_{index}.nii.gz", np.stack(channels, -1) if num_channels > 1 else image)
        save(root / f"labelsTr/brats_{index}.nii.gz", label)
    entries = [
        {"image": f"./imagesTr/brats_{index}.nii.gz", "label": f"./labelsTr/brats_{index}.nii.gz"} for index in range(3)
    ]
    described = {
        "modality": {str(number): name for number, name in enumerate(["FLAIR", "T1w", "t1gd", "T2w"][:num_channels])},
        "labels": V1,
        "numTraining": 3,
        "training": entries,
        "test": ["./imagesTs/brats_9.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(described))


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


def bids(root: Path, suffixes: Sequence[str] = ("T1w",)) -> None:
    """Two sessions of three participants, with a label map and a mask each."""
    for number in (1, 2, 3):
        for session in ("a", "b"):
            image, label = made(10 * number + ord(session), (0, 3, 9))
            stem = f"sub-0{number}_ses-{session}"
            folder = f"sub-0{number}/ses-{session}/anat"
            for shift, suffix in enumerate(suffixes):
                save(root / folder / f"{stem}_{suffix}.nii.gz", image + shift)
            derived = root / "derivatives/manual" / folder
            save(derived / f"{stem}_dseg.nii.gz", label)
            save(derived / f"{stem}_label-lesion_mask.nii.gz", (image > 500).astype(np.uint8))
            save(derived / f"{stem}_space-MNI152_dseg.nii.gz", label)
    (root / "derivatives/manual/dseg.tsv").write_text("index\tname\n0\tBackground\n3\tgrey\n9\twhite\n")
    rows = ["sub-01\t34\tF\tn/a", "sub-02\t91\tM\tx", "03\t7\tF\ty"]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tsex\thandedness", *rows]) + "\n")


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


CONVENTIONS: dict[str, tuple[str, str]] = {
    "equal": ("images/c{}.nii.gz", "masks/c{}.nii.gz"),
    "suffix": ("images/c{}.nii.gz", "labels/c{}_seg.nii.gz"),
    "prefix": ("image/img_c{}.nii.gz", "mask/mask_c{}.nii.gz"),
    "other format": ("scans/c{}.mha", "segmentations/c{}-label.nrrd"),
    "channel": ("images/c{}_0000.nii.gz", "labels/c{}.nii.gz"),
    "flat pairs": ("c{}.nii.gz", "c{}_seg.nii.gz"),
    "flat pairs of images": ("c{}_image.nrrd", "c{}_label.nrrd"),
    "subjects": ("c{}/t2.nii.gz", "c{}/t2_mask.nii.gz"),
    "own names in MHA": ("c{}/img.mha", "c{}/label.mha"),
    "Slicer": ("c{}/ct.nrrd", "c{}/Segmentation.seg.nrrd"),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_of_names(tmp_path: Path, name: str) -> None:
    """Voxels, labels and affine are those of the files."""
    image_name, label_name = CONVENTIONS[name]
    for index in range(3):
        image, label = made(index)
        save(tmp_path / "src" / image_name.format(index), image)
        save(tmp_path / "src" / label_name.format(index), label.astype(np.uint8))
    report = run(tmp_path / "src", tmp_path / "out")
    assert [case.name for case in report.cases] == ["c0", "c1", "c2"]
    assert not report.left_out
    for index in range(3):
        (voxels, label), affine = read(tmp_path / "out", f"c{index}")
        np.testing.assert_array_equal(voxels, made(index)[0])
        np.testing.assert_array_equal(label, made(index)[1])
        np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    require_sound(tmp_path / "out", report)


@pytest.mark.parametrize("pattern", ["masks/{case}/{structure}.nii.gz", "masks/{structure}/{case}.nii.gz"])
def test_masks_of_structures_are_joined(tmp_path: Path, pattern: str) -> None:
    """A folder for each case, or for each structure; stored as 0 and 255."""
    for index in range(4):
        image, label = made(index)
        save(tmp_path / "src/images" / f"c{index}.nii.gz", image)
        for value, structure in ((1, "kidney"), (2, "liver")):
            path = pattern.format(case=f"c{index}", structure=structure)
            save(tmp_path / "src" / path, ((label == value) * 255).astype(np.uint8))
    report = run(tmp_path / "src", tmp_path / "out")
    assert report.labels == ["background", "kidney", "liver"]
    for index in range(4):
        np.testing.assert_array_equal(read(tmp_path / "out", f"c{index}")[0][1], made(index)[1])
    require_sound(tmp_path / "out", report)


def test_splits_of_folders_stay_and_patients_csv_is_read(tmp_path: Path) -> None:
    """images/train and masks/train; a case without a row is named."""
    rows = ["path,patient,site"]
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        for index in numbers:
            image, label = made(index, (0, 255))
            save(tmp_path / f"src/images/{split}/c{index}.nii.gz", image)
            save(tmp_path / f"src/masks/{split}/c{index}.nii.gz", label)
            rows.append(f"images/{split}/c{index}.nii.gz, p\u00a0{index // 2},north")
    rows.pop()
    (tmp_path / "src/patients.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    report = run(tmp_path / "src", tmp_path / "out")
    assert [case.name for case in report.cases] == ["test/c4", *(f"train/c{index}" for index in range(4))]
    assert "renumbered without gaps: 255 is 1" in report.warnings[0]
    assert [omission.path for omission in report.left_out] == ["images/test/c5.nii.gz"]
    assert "test/c4,p 2,north" in (tmp_path / "out/patients.csv").read_text()
    require_sound(tmp_path / "out", report)


def test_modalities_in_a_subjects_folder(tmp_path: Path) -> None:
    """Named by what distinguishes their files."""
    for index in range(3):
        image, label = made(index, (0, 1, 2, 4))
        for shift, kind in enumerate(("flair", "t1", "t1ce")):
            save(tmp_path / f"src/B_{index}/B_{index}_{kind}.nii.gz", image + shift)
        save(tmp_path / f"src/B_{index}/B_{index}_seg.nii.gz", label)
    with pytest.raises(SettingError, match=r"3 channels \(0 flair, 1 t1, 2 t1ce\)"):
        run(tmp_path / "src", tmp_path / "out")
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, channel="t1ce"))
    np.testing.assert_array_equal(read(tmp_path / "out", "B_1")[0][0], made(1)[0] + 2)
    assert "label values are renumbered without gaps: 4 is 3" in report.warnings
    require_sound(tmp_path / "out", report)


def test_nrrd_by_its_specification(tmp_path: Path) -> None:
    """Written by hand: space directions are columns of the affine, LPS is RAS with two signs changed."""
    for index in range(3):
        image, label = made(index)
        for stem, voxels in (("", image), ("_seg", label.astype(np.int16))):
            header = (
                "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 7 5\nendian: little\n"
                "encoding: raw\nspace directions: (0,1.5,0) (-2,0,0) (0,0,3)\nspace origin: (1,2,3)\n\n"
            )
            path = tmp_path / f"src/c{index}{stem}.nrrd"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(header.encode() + voxels.astype("<i2").tobytes(order="F"))
    report = run(tmp_path / "src", tmp_path / "out")
    (voxels, _), affine = read(tmp_path / "out", "c1")
    np.testing.assert_array_equal(voxels, made(1)[0])
    np.testing.assert_array_equal(affine, [[0, 2, 0, -1], [-1.5, 0, 0, -2], [0, 0, 3, 3], [0, 0, 0, 1]])
    require_sound(tmp_path / "out", report)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "c1.mhd",
            "NDims = 3\nDimSize = 6 7 5\nElementType = MET_SHORT\nElementDataFile = ../secret.raw\n",
            "takes its voxels",
        ),
        (
            "c1.mhd",
            "NDims = 3\nDimSize = 6 7 5\nElementType = MET_SHORT\nElementDataFile = LIST\na.raw\n",
            "takes its voxels",
        ),
        ("c1.mhd", "NDims = 3\nDimSize = 6 7 5\nElementType = MET_SHORT\nElementDataFile = no.raw\n", "voxels' file"),
        (
            "c1.mha",
            "NDims = 3\nDimSize = 60000 70000 50000\nElementType = MET_SHORT\nElementDataFile = LOCAL\n",
            "its header",
        ),
        ("c1.mha", "ObjectType = Image\n", "is no MetaImage"),
        (
            "c1.nhdr",
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 5\nencoding: raw\ndata file: /etc/passwd\n\n",
            "takes its",
        ),
        ("c1.nrrd", "NRRD0004\ntype: block\ndimension: 3\n\n", "is truncated or damaged"),
        ("c1.nrrd", "PNG", "is no NRRD file"),
    ],
)
def test_hostile_headers_of_mha_and_nrrd(tmp_path: Path, name: str, content: str, message: str) -> None:
    """No file outside of the folder is read, and no memory allocated that the file can't fill."""
    for index in (0, 2, 3):
        image, label = made(index)
        save(tmp_path / f"src/images/c{index}.nii.gz", image)
        save(tmp_path / f"src/masks/c{index}.nii.gz", label)
    (tmp_path / "secret.raw").write_bytes(bytes(420))
    (tmp_path / "src/images" / name).write_text(content)
    save(tmp_path / "src/masks/c1.nii.gz", made(1)[1])
    report = run(tmp_path / "src", tmp_path / "out")
    assert len(report.cases) == 3
    [omission] = report.left_out
    assert omission.path == f"images/{name}"
    assert message in omission.reason


def test_volumes_without_a_label(tmp_path: Path) -> None:
    """They stay out by a reason, or are imported on request."""
    for index in range(2):
        save(tmp_path / f"src/images/c{index}.nii.gz", made(index)[0])
    save(tmp_path / "src/masks/c0.nii.gz", made(0)[1])
    report = run(tmp_path / "src", tmp_path / "out")
    assert [(omission.path, omission.reason[:13]) for omission in report.left_out] == [
        ("images/c1.nii.gz", "has no label;")
    ]
    report = run(tmp_path / "src", tmp_path / "out", replace(OPTIONS, unlabelled=True))
    assert [(case.name, case.is_new) for case in report.cases] == [("c0", False), ("c1", True)]
    assert [path.name for path in (tmp_path / "out/c1").iterdir()] == ["img.nii.gz"]


def test_names_of_slicers_segments(tmp_path: Path) -> None:
    """A .seg.nrrd has them in its header; files that disagree are refused by name."""

    def write(index: int, name: str) -> None:
        image = SimpleITK.GetImageFromArray(made(index)[1].astype(np.uint8).transpose(2, 1, 0))
        for number, (key, value) in enumerate({name: 1, "spleen": 2}.items()):
            image.SetMetaData(f"Segment{number}_Name", key)
            image.SetMetaData(f"Segment{number}_LabelValue", str(value))
        SimpleITK.WriteImage(image, str(tmp_path / f"src/c{index}/Segmentation.seg.nrrd"))
        volume = SimpleITK.GetImageFromArray(made(index)[0].transpose(2, 1, 0))
        SimpleITK.WriteImage(volume, str(tmp_path / f"src/c{index}/ct.nrrd"))

    for index in range(3):
        (tmp_path / f"src/c{index}").mkdir(parents=True)
        write(index, "liver")
    assert run(tmp_path / "src", tmp_path / "out").labels == ["background", "liver", "spleen"]
    write(2, "kidney")
    with pytest.raises(
        DataError, match=r"c2/Segmentation.seg.nrrd: a label value has another name than in other files"
    ):
        run(tmp_path / "src", tmp_path / "out2")


def test_names_that_only_look_like_splits(tmp_path: Path) -> None:
    """A case called test is no split of the data set; names that differ in case only stay apart."""
    for name in ("test", "train_1", "A", "a"):
        image, label = made(len(name) + ord(name[0]))
        save(tmp_path / f"src/imagesTr/{name}.nii.gz", image)
        save(tmp_path / f"src/labelsTr/{name}.nii.gz", label)
    report = run(tmp_path / "src", tmp_path / "out")
    assert sorted(case.name for case in report.cases) == ["A", "a-2", "case-test", "train_1"]
    require_sound(tmp_path / "out", report)


def test_series_over_time_without_a_label_dont_count(tmp_path: Path) -> None:
    """They need no channel, and are left out."""
    bids(tmp_path / "src")
    save(tmp_path / "src/sub-09/func/sub-09_bold.nii.gz", np.zeros((4, 4, 4, 7), np.int16))
    report = run(tmp_path / "src", tmp_path / "out")
    assert len(report.cases) == 6
    assert ("sub-09/func/sub-09_bold.nii.gz", 1) in [(each.path, each.num_files) for each in report.left_out]


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


def test_an_image_in_two_formats(tmp_path: Path) -> None:
    """One is imported, and the other named."""
    for index in range(3):
        image, label = made(index)
        save(tmp_path / f"src/images/c{index}.nii.gz", image)
        save(tmp_path / f"src/masks/c{index}.nii.gz", label)
    save(tmp_path / "src/images/c0.nrrd", made(0)[0])
    report = run(tmp_path / "src", tmp_path / "out")
    assert [each.path for each in report.left_out] == ["images/c0.nrrd"]
    assert len(report.cases) == 3
