"""Images and masks in folders, pairs, MHA and NRRD: voxels, geometry and labels are those of the files' own readers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from medloop.errors import DataError, SettingError
from tests.unit.importing.volume_sources import (
    AFFINE,
    OPTIONS,
    made,
    read,
    require_sound,
    run,
    save,
)

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
            "c1.mha",
            "NDims = 3\nDimSize = 6 7 5\nElementType = MET_SHORT\nelementdatafile = LOCAL\n"
            "ELEMENTDATAFILE = c0.nii.gz\nElementDataFile = ../secret.raw\n",
            "takes its voxels",
        ),
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


@pytest.mark.parametrize(
    ("image_name", "label_name", "source", "case"),
    [
        ("images/case_000{}.nii.gz", "masks/case_000{}.nii.gz", "masks", "case_000{}"),
        ("images/case_000{}.nii.gz", "masks/case_000{}_seg.nii.gz", "masks", "case_000{}"),
        ("images/img_000{}.nii.gz", "masks/mask_000{}.nii.gz", "masks", "000{}"),
        ("images/img000{}.nii.gz", "masks/img000{}.nii.gz", "masks", "img000{}"),
        ("images/case_202{}_0000.nii.gz", "masks/case_202{}.nii.gz", "masks", "case_202{}"),
        ("case_000{}.nii.gz", "case_000{}_label.nii.gz", "pairs", "case_000{}"),
        ("case_000{}_img.nii.gz", "case_000{}_label.nii.gz", "pairs", "case_000{}"),
        ("imagesTr/case_000{}.nii.gz", "labelsTr/case_000{}.nii.gz", "decathlon", "case_000{}"),
        ("imagesTr/case_202{}_0000.nii.gz", "labelsTr/case_202{}.nii.gz", "nnunet", "case_202{}"),
    ],
)
def test_numbers_of_cases_are_no_channels(
    tmp_path: Path, image_name: str, label_name: str, source: str, case: str
) -> None:
    """The label's name shows which number is the case's."""
    for index in range(3):
        image, label = made(index)
        save(tmp_path / "src" / image_name.format(index), image)
        save(tmp_path / "src" / label_name.format(index), label)
    report = run(tmp_path / "src", tmp_path / "out")
    assert (report.source, report.left_out) == (source, [])
    assert [each.name for each in report.cases] == [case.format(index) for index in range(3)]
    np.testing.assert_array_equal(read(tmp_path / "out", case.format(1))[0][1], made(1)[1])


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
