"""report.html: its content, what it never contains, and its content security policy."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
import re
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from medloop.documents.evaluation import (
    CalibrationCurve,
    Comparison,
    Evaluation,
    Floor,
    Interval,
    LesionCounts,
    OperatingPoint,
    ReliabilityBin,
    Statistic,
    Subgroup,
    VolumeAgreement,
)
from medloop.documents.split import Quarantined
from medloop.evaluation.evaluate import Assessment
from medloop.evaluation.report.cropped_volume import CroppedVolume
from medloop.evaluation.report.embedded_volumes import BUDGET, embed, shows_a_face
from medloop.evaluation.report.page import VIEWER_FILE, render
from medloop.evaluation.report.provenance import attribute_table
from medloop.evaluation.report.training_curves import read_history
from medloop.evaluation.report.verdict import checks, headline, sentence
from tests.unit.evaluation.worlds import ball, image_world, volume_world

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
PREDICTIONS = {"cat/p1_0.png": (0.9, 0.1), "cat/p1_1.png": (0.4, 0.6), "dog/p2_0.png": (0.3, 0.7)}
INTERVAL = Interval(lower=0.7, upper=0.95, level=0.95, method="made up")
SHAPE = (60, 50, 40)
CENTRE = (30, 25, 20)


class Elements(HTMLParser):
    """Counts elements, and remembers attributes that run something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count."""
        self.names.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def drawn(assessment: Assessment, evaluation: Evaluation | None = None, **changes: Any) -> str:
    """The page of an assessment, with another record or split."""
    return render(
        evaluation or assessment.evaluation, assessment.scores, assessment.model, changes.get("split", assessment.split)
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Assessment:
    """Three images of two patients."""
    return image_world(tmp_path_factory.mktemp("images"), PREDICTIONS).assessed()


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Assessment:
    """One volume, bright throughout, with a name and a description in its header, the structure in its middle."""
    truth = ball(SHAPE, 4, CENTRE).astype(np.uint8)
    world = volume_world(
        tmp_path_factory.mktemp("volumes"), {"p1": truth}, lambda labels, _: np.roll(labels, 1, 0), spacing=(1, 1, 2)
    )
    volume = nib.Nifti1Image(
        np.random.default_rng(0).normal(500, 9, SHAPE).astype(np.float32), np.diag([1.0, 1.0, 2.0, 1.0])
    )
    volume.header["descrip"], volume.header["db_name"] = b"Doe^Jane", b"DOE"
    volume.header.set_xyzt_units("mm")
    nib.save(volume, world.test / "p1" / "img.nii.gz")
    return world.assessed()


def full_record(evaluation: Evaluation, text: str) -> Evaluation:
    """Every list filled, with this text wherever a record holds one of the user's."""
    comparison = Comparison(
        role="champion", model=text, score_candidate=0.9, score_model=0.91, difference=-0.01, lower_bound=-0.05,
        num_patients=24, num_cases=30, classes={text: -0.1}, power=0.4, num_patients_needed=80, note=text,
    )  # fmt: skip
    groups = [
        Subgroup(attribute=text, value=text, score=0.8, interval=INTERVAL, num_patients=21, num_cases=30, ranked=True),
        Subgroup(attribute=text, value="rare", score=0.1234, num_patients=3, num_cases=4, hidden=True),
    ]
    bins = [ReliabilityBin(lower=0.5, upper=0.6, mean_probability=0.55, frequency=0.5, num_cases=2)]
    return evaluation.model_copy(
        update={
            "notes": [text],
            "comparisons": [comparison, comparison.model_copy(update={"role": "first"})],
            "statistics": [
                Statistic(name="auroc", value=0.8, interval=INTERVAL, num_patients=24, num_cases=30, note=text),
                Statistic(name="hd95", class_name=text, value=3.0, unit="mm", num_patients=None, num_cases=30),
                Statistic(name="novel", class_name=text, value=None, num_patients=2, num_cases=0, note=text),
            ],
            "subgroups": groups,
            "floors": [Floor(class_name=text, metric="auroc", floor=0.9, value=0.5)],
            "calibration": CalibrationCurve(temperature=1.2, bins=bins),
            "operating_points": [OperatingPoint(class_name=text, threshold=0.4, source="val")],
            "lesions": [LesionCounts(class_name=text, num_true=9, num_missed=2, num_predicted=8, num_false=1)],
        }
    )


@pytest.mark.slow
def test_no_text_of_a_user_becomes_markup(images: Assessment) -> None:
    """Class names, attributes, notes, versions and reasons that hold elements add none, and no handler."""
    harmless, hostile = Elements(), Elements()
    for parser, text in ((harmless, "harmless"), (hostile, HOSTILE)):
        split = images.split.model_copy(update={"quarantined": [Quarantined(path=text, reason=text)]})
        outcome_page = drawn(images, full_record(images.evaluation, text), split=split)
        parser.feed(outcome_page)
    assert hostile.names == harmless.names
    assert hostile.handlers == []
    assert HOSTILE not in outcome_page
    assert "&lt;script&gt;alert(1)" in outcome_page


@pytest.mark.slow
def test_names_of_cases_stay_within_their_script(tmp_path: Path) -> None:
    """JSON in the page contains no element's end for any name of a case, and gives the name back."""
    assessment = image_world(
        tmp_path, {"a<b/p1_0.png": (0.9, 0.1), "dog/p2_0.png": (0.8, 0.2)}, classes=("a<b", "dog")
    ).assessed()
    (text,) = re.findall(r'id="case-data">(.*?)</script>', drawn(assessment))
    assert "<" not in text
    assert {row[1] for row in json.loads(text)["rows"]} == {"a<b/p1_0.png", "dog/p2_0.png"}


@pytest.mark.slow
def test_scripts_run_by_their_digest_alone(volumes: Assessment) -> None:
    """The policy names the digest of each script in the page, and of the viewer; nothing may be loaded."""
    page = drawn(volumes)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    scripts = [script.encode() for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)]
    scripts.append(gzip.decompress(VIEWER_FILE.read_bytes()))
    digests = {base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts}
    assert set(re.findall(r"'sha256-([^']*)'", policy)) == digests
    assert len(digests) == 3
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == "'none'"
    assert "unsafe" not in allowed["script-src"]
    assert (allowed["img-src"], "connect-src" in allowed) == ("data:", False)


@pytest.mark.slow
def test_a_page_with_the_viewer_has_the_notices_of_what_is_in_it(images: Assessment, volumes: Assessment) -> None:
    """Binary forms must reproduce copyright, conditions and disclaimer, of the viewer and of each library in it."""
    page = html.unescape(drawn(volumes))
    assert (VIEWER_FILE.parent / "LICENSE").read_text() in page
    contained = re.findall(r"contains: (.*)\.", page)[0].split(", ")
    for text in ("Copyright (c) 2021, Niivue", "in the documentation\n", *(f"\n{name} (" for name in contained)):
        assert text in page
    assert len(re.findall(r"^Copyright \(c\) ", page, re.MULTILINE)) == 1 + len(contained)
    assert "Niivue" not in drawn(images)


def test_the_viewer_is_the_one_that_its_readme_names() -> None:
    """Packed and unpacked."""
    readme = (VIEWER_FILE.parent / "README.md").read_text()
    packed = VIEWER_FILE.read_bytes()
    for content in (packed, gzip.decompress(packed)):
        assert hashlib.sha256(content).hexdigest() in readme


@pytest.mark.slow
def test_the_registry_s_place_is_right_after_the_verdict(images: Assessment) -> None:
    """The marker follows the verdict's end, once, and a sentence names the command that shows the card."""
    page = drawn(images)
    assert len(re.findall(r'</div>\s*<!-- medloop:registry -->\s*<p class="plain-file">', page)) == 1
    assert page.index('class="verdict') < page.index("<!-- medloop:registry -->") < page.index("<h2>Statistics")
    assert "medloop models open" in page


@pytest.mark.slow
def test_a_record_of_version_1_is_drawn(images: Assessment, volumes: Assessment) -> None:
    """Sections without content are absent or empty."""
    for assessment in (images, volumes):
        content = json.loads(assessment.evaluation.to_json()) | {"version": 1}
        for name in ("statistics", "calibration", "operating_points", "volumes", "lesions", "floors", "comparisons"):
            content.pop(name)
        page = drawn(assessment, Evaluation.model_validate(content))
        assert f"{assessment.evaluation.score.value:.3f}" in page


@pytest.mark.slow
def test_an_empty_record_is_drawn(images: Assessment) -> None:
    """Every list empty, every value null."""
    empty = images.evaluation.model_copy(
        update={
            "statistics": [],
            "notes": [],
            "subgroups": [],
            "comparisons": [],
            "multiclass_classification_metrics": None,
        }
    )
    page = drawn(images, empty)
    assert "None: the data has no patient attributes" in page
    assert "None: the model has no history of two or more epochs" in page


@pytest.mark.slow
def test_a_small_subgroup_s_score_is_nowhere(images: Assessment) -> None:
    """A hidden subgroup is named with its counts; not even a score in the record is shown."""
    page = drawn(images, full_record(images.evaluation, "site"))
    assert "under 5 patients: not shown" in page
    assert "0.123" not in page


def test_ages_are_counted_in_the_groups_of_the_subgroups(tmp_path: Path) -> None:
    """More values than a table may have: decades, with the number of test patients of each."""
    ages = {f"p{i}": {"age": str(60 + i)} for i in range(12)}
    world = image_world(tmp_path, {f"cat/p{i}_0.png": (0.9, 0.1) for i in range(12)}, attributes=ages)
    rows = attribute_table(world.split).rows
    assert [row[:2] for row in rows] == [["age", "60 to 69"], ["age", "70 to 79"]]
    assert [row[-1] for row in rows] == [10, "under 5"]


@pytest.mark.parametrize(
    ("gate", "update", "state", "text"),
    [
        ({"champion": "arn", "sufficient": 1, "margin_left": 0.01}, {"difference": 0.01, "lower_bound": -0.01}, "good",
         "Not worse: difference +0.010, one-sided 95 % lower bound -0.010, margin 0.020, 24 patients"),
        ({"champion": "arn", "sufficient": 1, "margin_left": -0.03}, {}, "bad", "Not shown to be as good"),
        ({"champion": "arn", "sufficient": 0, "margin_left": 0.0}, {}, "warn", "Insufficient evidence"),
        ({"champion": "arn", "sufficient": 0}, {"difference": None, "note": "other classes"}, "warn", "other classes"),
        ({"champion": ""}, {}, "none", "There is no approved version to compare with"),
    ],
)  # fmt: skip
def test_the_champion_s_line(
    images: Assessment, gate: dict[str, Any], update: dict[str, Any], state: str, text: str
) -> None:
    """Not worse, worse, insufficient, not compared, none: each in words, with difference, bound, margin and power."""
    record = full_record(images.evaluation, "arn")
    first = record.comparisons[0].model_copy(update=update)
    changed = record.model_copy(update={"gate": record.gate.model_copy(update=gate), "comparisons": [first]})
    (check,) = [check for check in checks(changed) if check.title == "Comparison with the champion"]
    assert check.state == state
    assert text in check.finding
    if update.get("difference", 0) is not None and gate["champion"]:
        assert "40 % of test sets; 80 % need 80 patients" in check.finding


def test_failed_checks_come_first(images: Assessment) -> None:
    """A class below its floor is in the headline and in the sentence to quote; then what needs attention."""
    below = full_record(images.evaluation, "cat")
    state, text = headline(checks(below))
    assert state == "bad"
    assert "floors by class" in text
    assert "Below their floor: cat." in sentence(below)
    state, text = headline(checks(images.evaluation))
    assert (state, "test patients" in text) == ("warn", True)


def test_unknown_patients_are_reported(tmp_path: Path) -> None:
    """Leakage is unknown, never 0."""
    assessed = image_world(tmp_path, PREDICTIONS, identifiers="none").assessed()
    states = {check.title: check for check in checks(assessed.evaluation)}
    assert states["Leakage"].state == "warn"
    assert states["Leakage"].finding.startswith("Unknown: no patient identifiers")
    assert "unknown number of patients" in sentence(assessed.evaluation)


def embedded(page: str) -> dict[str, nib.Nifti1Image]:
    """The volumes of the first case in the page."""
    texts = re.findall(r'id="volume-0-(\w+)">([^<]*)<', page)
    return {name: nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text))) for name, text in texts}


@pytest.mark.slow
def test_a_volume_shows_nothing_far_from_the_structures(volumes: Assessment) -> None:
    """Beyond 10 mm of truth and prediction every voxel is 0; within, none is; and the volume ends there."""
    files = embedded(drawn(volumes))
    image, truth, predicted = (np.asanyarray(files[name].dataobj) for name in ("image", "truth", "prediction"))
    distance = distance_transform_edt((truth == 0) & (predicted == 0), sampling=(1, 1, 2))
    assert (image[distance > 10] == 0).all()
    assert (image[distance <= 10] > 0).all()
    assert image.shape == (30, 29, 19)
    assert image.dtype == truth.dtype == predicted.dtype == np.uint8


@pytest.mark.slow
def test_a_volume_s_header_holds_no_text(volumes: Assessment) -> None:
    """Neither the file's own texts nor its place in the scanner; the page has no path."""
    page = drawn(volumes)
    assert "Doe^Jane" not in page
    assert str(volumes.scores.scored.cases[0].path) not in page
    for volume in embedded(page).values():
        assert b"DOE" not in volume.to_bytes()[:352]
        header = volume.header
        texts = ("descrip", "db_name", "aux_file", "intent_name", "data_type", "magic")
        assert [bytes(header[name]).strip(b"\0") for name in texts] == [b"", b"", b"", b"", b"", b"n+1"]
        assert len(header.extensions) == 0
        assert volume.affine.tolist() == np.diag([1.0, 1.0, 2.0, 1.0]).tolist()


@pytest.mark.parametrize(
    ("name", "face"), [("skin", True), ("Head", True), ("left_face", True), ("femoral head", False), ("surface", False)]
)
def test_structures_that_are_a_face(name: str, face: bool) -> None:
    """No volume of a model with such a structure is embedded."""
    assert shows_a_face(["liver", name]) is face


def test_large_volumes_are_thinned_until_they_fit() -> None:
    """Noise, which can't be compressed, is embedded at half its resolution, within the limit, by voxels of its own."""
    noise = np.random.default_rng(0).integers(1, 256, (64, 64, 64), dtype=np.uint8)
    nothing = np.zeros_like(noise)
    page = embed(CroppedVolume(noise, nothing, nothing, (1.0, 1.0, 1.0), True), "", limit=100_000)
    assert page is not None
    assert page.size <= 100_000
    assert (page.step, page.shape) == (2, (32, 32, 32))
    volume = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(page.files["image"])))
    assert (np.asanyarray(volume.dataobj) == noise[::2, ::2, ::2]).all()
    assert volume.affine[0, 0] == 2.0
    assert embed(CroppedVolume(noise, nothing, nothing, (1.0, 1.0, 1.0), True), "", limit=1000) is None


def test_the_budget_leaves_room_for_the_rest() -> None:
    """Volumes and viewer take little more than half of the 30 MB that a page may have."""
    assert BUDGET + VIEWER_FILE.stat().st_size * 4 / 3 < 16e6


@pytest.mark.parametrize("packed", [True, False])
def test_history_is_read_from_a_model(tmp_path: Path, packed: bool) -> None:
    """A folder and its archive give the same; values that an epoch doesn't have are absent."""
    text = b"epoch,train_loss,val_auroc\n1,0.5,\n2,0.4,0.9\n"
    if packed:
        with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
            member = tarfile.TarInfo("history.csv")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    else:
        (tmp_path / "history.csv").write_bytes(text)
    assert read_history(tmp_path) == [
        {"epoch": 1.0, "train_loss": 0.5},
        {"epoch": 2.0, "train_loss": 0.4, "val_auroc": 0.9},
    ]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"no archive"])
def test_no_history_is_no_failure(tmp_path: Path, content: bytes | None) -> None:
    """Absent, empty, not text, or an archive that is none."""
    if content is not None:
        (tmp_path / ("model.tar.gz" if content == b"no archive" else "history.csv")).write_bytes(content)
    assert read_history(tmp_path) == []


@pytest.mark.slow
def test_curves_of_training_are_drawn(images: Assessment) -> None:
    """Losses and scores, with what they end at in words."""
    history = [{"epoch": 1.0, "train_loss": 0.5, "val_loss": 0.6}, {"epoch": 2.0, "train_loss": 0.4, "val_auroc": 0.9}]
    page = render(images.evaluation, images.scores, images.model, images.split, history)
    assert "Training curves, loss, over 2 epochs; last: train_loss 0.400, val_loss 0.600" in page
    assert "val_auroc 0.900" in page


@pytest.mark.slow
def test_agreement_of_volumes_is_drawn(volumes: Assessment) -> None:
    """Bias and limits, in the plot's words and in the table."""
    agreement = VolumeAgreement(
        class_name="gland", unit="ml", bias=0.5, interval=None, lower_limit=-1, upper_limit=2, mean_truth=3, num_cases=1
    )
    page = drawn(volumes, volumes.evaluation.model_copy(update={"volumes": [agreement]}))
    assert "Bland-Altman plot of gland: bias 0.50 ml, limits -1.00 to 2.00 ml" in page
