"""Evaluating a classifier, from folders to files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import jsonschema
import pytest

from medloop.documents.evaluation import SCHEMA_FILE, Evaluation
from medloop.errors import DataError, SettingError, TargetError
from medloop.evaluation.evaluate import exit_message
from tests.unit.evaluation.worlds import World, image_world, model_record

CAVEAT = "Derived from one template: no population."

PREDICTIONS = {
    "cat/p1_0.png": (0.9, 0.1),
    "cat/p1_1.png": (0.4, 0.6),
    "dog/p2_0.png": (0.3, 0.7),
    "dog/p2_1.png": (0.2, 0.8),
}


def many_patients(num_patients: int) -> dict[str, tuple[float, float]]:
    """Two images a patient; every seventh patient's dog is predicted as a cat."""
    predictions = {}
    for i in range(num_patients):
        predictions[f"cat/p{i}_0.png"] = (0.6 + 0.01 * i / num_patients, 0.4 - 0.01 * i / num_patients)
        predictions[f"dog/p{i}_1.png"] = (0.7, 0.3) if i % 7 == 0 else (0.1, 0.9)
    return predictions


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Evaluation]:
    """Evaluated and written once: two patients, a third that the model has seen, and a caveat."""
    predictions = {**PREDICTIONS, "cat/aa01_0.png": (0.0, 1.0)}
    world = image_world(tmp_path_factory.mktemp("written"), predictions, options={"note": CAVEAT})
    return world, world.write()


def test_scores(tmp_path: Path) -> None:
    """Two patients: the right numbers, and no interval."""
    evaluation = image_world(tmp_path, PREDICTIONS).score()
    assert evaluation.score.name == "macro_auroc"
    assert evaluation.score.value == pytest.approx(1.0)
    assert evaluation.score.interval is None
    assert evaluation.gate.model_dump() == {
        "score": 1.0, "margin": 0.02, "margin_left": 0.0, "sufficient": 0, "num_patients": 2, "champion": "",
        "floor_left": 0.0, "verdict": "macro_auroc 1.0000; no approved version to compare with.",
    }  # fmt: skip
    metrics = evaluation.multiclass_classification_metrics
    assert metrics is not None
    assert metrics.confusion_matrix == {"cat": {"cat": 1, "dog": 1}, "dog": {"cat": 0, "dog": 2}}
    assert metrics.model_dump()["accuracy"] == {"value": 0.75, "standard_deviation": 0.0}
    assert any(note.startswith("Only 2 test patients") for note in evaluation.notes)
    assert evaluation.data.leakage.status == "none"
    assert "macro_auroc 1.0000 on 4 cases of 2 test patients" in exit_message(evaluation)


def test_evaluation_json(written: tuple[World, Evaluation]) -> None:
    """The file is what was returned, fits its schema, and no temporary file stays."""
    world, evaluation = written
    path = world.output / "evaluation.json"
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    jsonschema.validate(content, json.loads(SCHEMA_FILE.read_text()))
    assert Evaluation.read(path.parent) == evaluation
    assert "segmentation_metrics" not in content
    names = ["cases.csv", "evaluation.json", "registration.json", "report.html"]
    assert sorted(path.name for path in world.output.iterdir()) == names


def test_an_older_file_is_read(written: tuple[World, Evaluation], tmp_path: Path) -> None:
    """One from before there were comparisons."""
    content = json.loads((written[0].output / "evaluation.json").read_text())
    del content["comparisons"], content["test_uses"], content["gate"]["verdict"]
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(content))
    evaluation = Evaluation.read(path.parent)
    assert (evaluation.comparisons, evaluation.test_uses, evaluation.gate.verdict) == ([], 1, "")


def test_cases_csv(written: tuple[World, Evaluation]) -> None:
    """One row a scored case: pseudonym, path, truth, prediction, probabilities."""
    with (written[0].output / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert rows[1] == {
        "patient": "p1", "case": "cat/p1_1.png", "truth": "cat", "predicted": "dog",
        "probability_cat": "0.4", "probability_dog": "0.6",
    }  # fmt: skip


def test_page(written: tuple[World, Evaluation]) -> None:
    """The page loads nothing, and has the note, the leakage and the number of patients."""
    page = (written[0].output / "report.html").read_text()
    sources = re.findall(r'src="([^"]*)"', page)
    assert all(source.startswith("data:image/") for source in sources)
    assert "http://" not in page
    assert "https://" not in page
    for text in (CAVEAT, "Only 2 test patients", "no interval", "FOUND: 1 patient is in test and in the model"):
        assert text in page


def test_seen_patients_are_left_out(written: tuple[World, Evaluation]) -> None:
    """A test patient that the model was trained on is counted, excluded from the score, and reported."""
    evaluation = written[1]
    assert evaluation.score.value == pytest.approx(1.0)
    leakage = evaluation.data.leakage
    assert (leakage.status, leakage.num_patients, leakage.num_cases) == ("found", 1, 1)
    assert evaluation.data.num_cases == 4
    assert evaluation.notes[0] == CAVEAT
    assert "leakage: FOUND: 1 patient" in exit_message(evaluation)


def test_enough_patients_have_an_interval(tmp_path: Path) -> None:
    """20 patients give an interval around the score, and standard deviations that aren't 0."""
    evaluation = image_world(tmp_path, many_patients(20)).score()
    interval = evaluation.score.interval
    assert interval is not None
    assert 0 < interval.lower < evaluation.score.value < interval.upper <= 1
    assert evaluation.gate.sufficient == 1
    assert evaluation.multiclass_classification_metrics is not None
    assert evaluation.multiclass_classification_metrics.model_dump()["accuracy"]["standard_deviation"] > 0


def test_unknown_patients(tmp_path: Path) -> None:
    """Without identifiers there is no number of patients, no interval, and leakage is unknown, never 0."""
    evaluation = image_world(tmp_path, many_patients(20), identifiers="none").score()
    assert evaluation.data.num_patients is None
    assert evaluation.score.interval is None
    assert (evaluation.data.leakage.status, evaluation.data.leakage.num_patients) == ("unknown", None)
    assert (evaluation.gate.num_patients, evaluation.gate.sufficient) == (0, 0)
    assert any("not known" in note for note in evaluation.notes)


def test_only_seen_patients(tmp_path: Path) -> None:
    """A test set of patients that were all trained on is refused."""
    with pytest.raises(DataError, match="trained on every patient"):
        image_world(tmp_path, {"cat/aa01_0.png": (1, 0), "dog/bb01_0.png": (0, 1)}).score()


def test_subgroups(tmp_path: Path) -> None:
    """Score, interval and counts by attribute; under five patients nothing is shown, under twenty nothing ranked."""
    attributes = {f"p{i}": {"sex": "f" if i % 7 == 0 else "m", "age": str(30 + i % 25)} for i in range(28)}
    groups = {
        (g.attribute, g.value): g
        for g in image_world(tmp_path, many_patients(28), attributes=attributes).score().subgroups
    }
    assert list(groups) == [
        ("age", "30 to 39"), ("age", "40 to 49"), ("age", "50 to 59"), ("sex", "f"), ("sex", "m"),
    ]  # fmt: skip
    few, many = groups["sex", "f"], groups["sex", "m"]
    assert (few.score, few.interval, few.hidden, few.ranked, few.num_patients) == (None, None, True, False, 4)
    assert (many.hidden, many.ranked, many.num_patients, many.num_cases) == (False, True, 24, 48)
    assert many.score == pytest.approx(1.0)
    assert many.interval is not None
    assert (groups["age", "30 to 39"].hidden, groups["age", "30 to 39"].ranked) == (False, False)


def test_statistics(tmp_path: Path) -> None:
    """Every statistic of the record, with interval and counts; sensitivity at the model's threshold."""
    world = image_world(tmp_path, many_patients(21))
    world.model.record.operating_point = None
    evaluation = world.score()
    statistics = {(s.name, s.class_name): s for s in evaluation.statistics}
    overall = {"macro_auroc", "average_precision", "accuracy", "balanced_accuracy", "macro_f1", "ece"}
    kinds = {"auroc", "average_precision", "sensitivity", "specificity"}
    assert set(statistics) == {(name, "") for name in overall} | {(k, c) for k in kinds for c in ("cat", "dog")}
    assert all(s.value is not None and s.num_patients == 21 for s in statistics.values())
    assert {name for (name, _), s in statistics.items() if s.interval is None and s.value != 1.0} == {"ece"}
    assert statistics["sensitivity", "dog"].value == statistics["specificity", "cat"].value == pytest.approx(18 / 21)
    assert statistics["sensitivity", "dog"].num_cases == 21
    assert statistics["macro_auroc", ""].interval == evaluation.score.interval
    assert "DeLong" in evaluation.score.interval.method if evaluation.score.interval else False
    assert [(p.class_name, p.threshold, p.source) for p in evaluation.operating_points] == [
        ("cat", 0.5, "default"), ("dog", 0.5, "default"),
    ]  # fmt: skip
    assert evaluation.calibration is not None
    assert sum(b.num_cases for b in evaluation.calibration.bins) == 42


def test_a_class_that_is_missing_has_no_number(tmp_path: Path) -> None:
    """Undefined statistics are null with a note, never NaN; the averages name the class."""
    world = image_world(tmp_path, {k: (*v, 0.0) for k, v in many_patients(12).items()}, classes=("cat", "dog", "fox"))
    evaluation = world.score()
    statistics = {(s.name, s.class_name): s for s in evaluation.statistics}
    for name in ("auroc", "average_precision", "sensitivity"):
        assert statistics[name, "fox"].value is None
        assert statistics[name, "fox"].note
    assert statistics["specificity", "fox"].value == 1.0
    assert "fox" in statistics["macro_auroc", ""].note
    json.loads(evaluation.to_json(), parse_constant=pytest.fail)


def test_floors(tmp_path: Path) -> None:
    """`gate.floor_left` is the minimum distance of a class above its floor; an unknown class is refused by name."""
    world = image_world(tmp_path, many_patients(12), options={"floors": {"cat": 0.5, "dog": 0.95}})
    evaluation = world.score()
    (dog,) = [floor for floor in evaluation.floors if floor.class_name == "dog"]
    assert dog.value is not None
    assert evaluation.gate.floor_left == pytest.approx(dog.value - 0.95)
    assert evaluation.gate.floor_left < 0
    world.options["floors"] = {"cow": 0.5}
    with pytest.raises(SettingError, match=r"evaluate\.floors: class 'cow' is unknown; known: cat, dog"):
        world.score()


@pytest.mark.slow
def test_one_class_only(tmp_path: Path) -> None:
    """A test set of one class leaves the score undefined: 0, with a note, and finite throughout."""
    world = image_world(tmp_path, {"cat/p1_0.png": (0.9, 0.1), "cat/p2_0.png": (0.8, 0.2)}, attributes={})
    evaluation = world.write()
    assert evaluation.score.value == evaluation.gate.score == 0.0
    assert any("one class only" in note for note in evaluation.notes)
    json.loads((world.output / "evaluation.json").read_text(), parse_constant=pytest.fail)


def test_absent_class_is_named(tmp_path: Path) -> None:
    """A class that the model knows and the test set lacks is named."""
    world = image_world(tmp_path, {k: (*v, 0.0) for k, v in PREDICTIONS.items()}, classes=("cat", "dog", "fox"))
    evaluation = world.score()
    assert evaluation.score.value == pytest.approx(1.0)
    assert any("No AUROC for fox" in note for note in evaluation.notes)


def test_all_wrong(tmp_path: Path) -> None:
    """The worst model scores 0 with finite numbers."""
    evaluation = image_world(tmp_path, {k: (v[1], v[0]) for k, v in PREDICTIONS.items()}).score()
    assert evaluation.score.value == pytest.approx(0.0)


@pytest.mark.slow
def test_repeats(tmp_path: Path) -> None:
    """Two runs write the same bytes, pictures included."""
    world = image_world(tmp_path, many_patients(12))
    world.write()
    first = {path.name: path.read_bytes() for path in world.output.iterdir()}
    world.write()
    assert {path.name: path.read_bytes() for path in world.output.iterdir()} == first


@pytest.mark.slow
def test_names_are_escaped(tmp_path: Path) -> None:
    """Class names with markup, spaces and formulas stay text, in the page and in the table."""
    names = ("<script>alert(1)</script>".replace("/", "|"), "=1+1 Größe", "$x_1$")
    predictions = {f"{name}/p{i}_0.png": tuple(float(i == k) for k in range(3)) for i, name in enumerate(names)}
    predictions[f"{names[0]}/p9_0.png"] = (0.0, 1.0, 0.0)
    world = image_world(tmp_path, predictions, classes=names)
    world.write()
    page = (world.output / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "=1+1 Größe" in page
    with (world.output / "cases.csv").open(newline="") as file:
        assert "'=1+1 Größe" in {row["truth"] for row in csv.DictReader(file)}


def test_empty_test_folder(tmp_path: Path) -> None:
    """An empty test folder is refused in one line."""
    world = image_world(tmp_path, PREDICTIONS)
    for path in world.test.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="test: the folder has no cases"):
        world.score()


def test_class_unknown_to_the_model(tmp_path: Path) -> None:
    """A class folder that the model doesn't know is named."""
    world = image_world(tmp_path, {**PREDICTIONS, "cow/p3_0.png": (0.5, 0.5)})
    with pytest.raises(DataError, match="test/cow: not a class of the model"):
        world.score()


def test_image_that_split_json_lacks(tmp_path: Path) -> None:
    """An image that split.json doesn't name is refused by path, and nothing is written."""
    world = image_world(tmp_path, PREDICTIONS)
    (world.test / "cat" / "stray.png").write_bytes((world.test / "cat" / "p1_0.png").read_bytes())
    with pytest.raises(DataError, match=r"test/cat/stray\.png: is not a test case of split\.json"):
        world.score()
    assert not world.output.exists()


def test_image_that_the_folder_lacks(tmp_path: Path) -> None:
    """An image that split.json names and the folder lacks is refused by path."""
    world = image_world(tmp_path, PREDICTIONS)
    (world.test / "dog" / "p2_0.png").unlink()
    with pytest.raises(DataError, match=r"test/dog/p2_0\.png: is in split\.json but not in the folder"):
        world.score()


def test_model_of_the_other_task(tmp_path: Path) -> None:
    """A segmentation model can't be evaluated as a classifier."""
    world = image_world(tmp_path, PREDICTIONS)
    world.model.record = model_record("segmentation", ("background", "cat"))
    with pytest.raises(DataError, match=r"model\.json: task is segmentation, not classification"):
        world.score()


@pytest.mark.slow
def test_target_below_a_file(tmp_path: Path) -> None:
    """An output folder that can't be made is named, with the fix."""
    world = image_world(tmp_path, PREDICTIONS)
    world.output.write_text("a file")
    with pytest.raises(TargetError, match="can't be written"):
        world.write()


def test_newer_record_is_refused_by_name(tmp_path: Path) -> None:
    """An evaluation.json of a later version is refused by its version, regardless of its content."""
    path = tmp_path / "evaluation.json"
    path.write_text('{"version": 99, "novelty": 1}')
    with pytest.raises(DataError, match=r"evaluation\.json: version 99 is newer than 2"):
        Evaluation.read(path.parent)
