"""Sources of volumes with label maps, as challenges and hospitals lay them out, and what was imported of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK

from medloop.documents.import_report import ImportReport
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
