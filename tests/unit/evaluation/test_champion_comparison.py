"""Comparison of a candidate with its champion and the first approved version, and the gate's numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.documents.evaluation import Comparison, Evaluation
from tests.unit.evaluation.worlds import FakeVolumeModel, World, ball, image_world, model_record, volume_world

CHAMPION = "arn:aws:sagemaker:us-east-1:000000000000:model-package/medloop/2"
FIRST = "arn:aws:sagemaker:us-east-1:000000000000:model-package/medloop/1"
GLAND = ball((12, 12, 6), 3.0, (6, 6, 3))


def images(root: Path, number: int, noise: float = 0.3, seed: int = 1, **options: Any) -> World:
    """`number` patients with a cat each, and as many with a dog; the more noise, the worse the model."""
    generator = np.random.default_rng(seed)
    predictions = {}
    for name, level in (("cat", 0.7), ("dog", 0.3)):
        for index in range(number):
            chance = float(np.clip(level + generator.normal(0, noise), 0.01, 0.99))
            predictions[f"{name}/{name}{index:02d}_0.png"] = (chance, 1 - chance)
    return image_world(root, predictions, options={"champion_arn": CHAMPION, **options})


def noisy_version(world: World, noise: float, seed: int = 2, **record: Any) -> Any:
    """Another model of the same cases."""
    generator = np.random.default_rng(seed)
    predictions = {}
    for name in world.model.predictions:
        level = 0.7 if name.startswith("cat") else 0.3
        chance = float(np.clip(level + generator.normal(0, noise), 0.01, 0.99))
        predictions[name] = (chance, 1 - chance)
    return replace(world.model, predictions=predictions, record=world.model.record.model_copy(update=record))


def only(evaluation: Evaluation) -> Comparison:
    """The one comparison."""
    (comparison,) = evaluation.comparisons
    return comparison


@pytest.mark.parametrize("mode", ["approval", "pipeline"])
def test_the_same_model_twice_is_not_worse(tmp_path: Path, mode: str) -> None:
    """Difference and bound are 0, and the whole margin is left."""
    world = images(tmp_path, 10, deploy_mode=mode)
    world.approved["champion"] = world.model
    evaluation = world.score()
    assert (only(evaluation).difference, only(evaluation).lower_bound) == (0.0, 0.0)
    assert only(evaluation).score_candidate == only(evaluation).score_model == pytest.approx(evaluation.score.value)
    gate = evaluation.gate
    assert gate.margin_left == pytest.approx(0.02)
    assert (gate.sufficient, gate.num_patients) == (1, 20)
    assert gate.champion == only(evaluation).model == CHAMPION


@pytest.mark.parametrize("mode", ["approval", "pipeline"])
def test_a_clearly_worse_classifier_is_refused(tmp_path: Path, mode: str) -> None:
    """Both modes pass, and the verdict names champion, difference and bound."""
    world = images(tmp_path, 15, noise=0.9, deploy_mode=mode)
    world.approved["champion"] = noisy_version(world, 0.05)
    evaluation = world.score()
    comparison, gate = only(evaluation), evaluation.gate
    assert comparison.difference is not None
    assert comparison.lower_bound is not None
    assert comparison.difference < -0.1
    assert comparison.lower_bound < comparison.difference
    assert gate.margin_left == pytest.approx(comparison.lower_bound + 0.02)
    assert gate.margin_left < 0
    assert comparison.classes == pytest.approx(dict.fromkeys(("cat", "dog"), comparison.difference))
    for part in (CHAMPION, f"{comparison.difference:+.4f}", f"{comparison.lower_bound:+.4f}", "30 patients"):
        assert part in gate.verdict


def test_power_of_a_comparison(tmp_path: Path) -> None:
    """24 patients give the power of an equally good model, and the number of patients for a power of 0.8."""
    world = images(tmp_path, 12)
    world.approved["champion"] = noisy_version(world, 0.3)
    comparison = only(world.score())
    assert comparison.power is not None
    assert comparison.num_patients_needed is not None
    assert 0.05 < comparison.power < 0.8
    assert comparison.num_patients_needed > 24
    world.approved["champion"] = world.model
    assert (only(world.score()).power, only(world.score()).num_patients_needed) == (1.0, 20)


def test_a_clearly_better_classifier_passes(tmp_path: Path) -> None:
    """The bound is above 0."""
    world = images(tmp_path, 30, noise=0.05)
    world.approved["champion"] = noisy_version(world, 0.9)
    assert world.score().gate.margin_left > 0.02


@pytest.mark.parametrize(("mode", "left"), [("approval", 0.0), ("pipeline", -1.0)])
def test_few_patients_are_insufficient(tmp_path: Path, mode: str, left: float) -> None:
    """Nineteen patients: an approver decides, or nothing is deployed; the difference is reported all the same."""
    world = images(tmp_path, 10, noise=0.9, deploy_mode=mode)
    seen = ["dog03"]
    world.approved["champion"] = noisy_version(world, 0.05)
    world.approved["champion"].record.patients.train[:] = seen
    evaluation = world.score()
    assert (evaluation.gate.margin_left, evaluation.gate.sufficient, evaluation.gate.num_patients) == (left, 0, 19)
    assert only(evaluation).difference is not None
    assert any("INSUFFICIENT EVIDENCE" in note and "19 patients" in note for note in evaluation.notes)


def test_patients_that_either_has_seen_are_left_out(tmp_path: Path) -> None:
    """The candidate's own, and the champion's, trained or validated on; the champion doesn't predict them."""
    world = images(tmp_path, 14)
    world.model.record.patients.train[:] = ["cat00"]
    other = noisy_version(
        world, 0.3, patients=model_record("classification", ("cat", "dog")).patients.model_copy(deep=True)
    )
    other.record.patients.train[:], other.record.patients.val[:] = ["cat01", "dog05"], ["dog01"]
    predictions = {
        k: v for k, v in other.predictions.items() if k.split("_")[0] not in {"cat00", "cat01", "dog05", "dog01"}
    }
    world.approved["champion"] = replace(other, predictions=predictions)
    evaluation = world.score()
    assert (only(evaluation).num_patients, only(evaluation).num_cases) == (24, 24)
    assert evaluation.data.num_patients == 27


def insufficient(world: World, message: str) -> None:
    """The candidate is scored, nothing is compared, and a note has the reason; a pipeline deploys nothing."""
    for mode, left in (("approval", 0.0), ("pipeline", -1.0)):
        world.options["deploy_mode"] = mode
        evaluation = world.score()
        assert (evaluation.gate.margin_left, evaluation.gate.sufficient, evaluation.gate.num_patients) == (left, 0, 0)
        assert evaluation.gate.champion == CHAMPION
        assert message in only(evaluation).note
        assert (only(evaluation).difference, only(evaluation).lower_bound) == (None, None)
        assert any(CHAMPION in note and message in note for note in evaluation.notes)
        assert "NOT COMPARED" in evaluation.gate.verdict


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    """A marker file where a version was named."""
    insufficient(images(tmp_path, 12), "model")


def test_other_classes(tmp_path: Path) -> None:
    """A champion of other classes can't be compared."""
    world = images(tmp_path, 12)
    world.approved["champion"] = noisy_version(world, 0.3, classes=["cat", "horse"])
    insufficient(world, "horse")


def test_the_other_task(tmp_path: Path) -> None:
    """A champion of the other task neither."""
    world = images(tmp_path, 12)
    world.approved["champion"] = FakeVolumeModel(model_record("segmentation", ("background", "cat")), lambda t, _: t)
    insufficient(world, "segmentation")


def test_a_champion_that_fails(tmp_path: Path) -> None:
    """An old model that breaks while it predicts costs the comparison, not the candidate's scores."""
    world = images(tmp_path, 12)
    world.approved["champion"] = replace(world.model, predictions={})
    insufficient(world, "KeyError")


def test_a_champion_that_has_seen_every_patient(tmp_path: Path) -> None:
    """No common test patient."""
    world = images(tmp_path, 12)
    other = noisy_version(world, 0.3, patients=world.model.record.patients.model_copy(deep=True))
    other.record.patients.train[:] = list(world.split.patients)
    world.approved["champion"] = other
    insufficient(world, "every test patient")


def test_without_identifiers(tmp_path: Path) -> None:
    """Patients that aren't known can't be compared."""
    world = images(tmp_path, 12)
    world.split.identifiers = "none"
    world.approved["champion"] = world.model
    insufficient(world, "identifiers")


def test_no_champion(tmp_path: Path) -> None:
    """The first model passes by MinScore; marker folders are not models."""
    evaluation = images(tmp_path, 12, champion_arn="none", first_arn="none", deploy_mode="pipeline").score()
    assert (evaluation.gate.margin_left, evaluation.gate.champion, evaluation.comparisons) == (0.0, "", [])


@pytest.mark.slow
def test_uses_and_the_first_version(tmp_path: Path) -> None:
    """Both comparisons are in the file and on the page; the gate is the champion's."""
    world = images(tmp_path, 12, first_arn=FIRST, test_uses=12)
    world.approved |= {"champion": world.model, "first": noisy_version(world, 0.02)}
    evaluation = world.write()
    assert [(c.role, c.model) for c in evaluation.comparisons] == [("champion", CHAMPION), ("first", FIRST)]
    assert evaluation.gate.margin_left == pytest.approx(0.02)
    assert evaluation.test_uses == 12
    assert any("12 times" in note and "46%" in note for note in evaluation.notes)
    page = (world.output / "report.html").read_text()
    assert page.index("difference from the champion") < page.index('<ul class="notes">')
    for part in (CHAMPION, FIRST, "not worse", "candidates were scored on this test set"):
        assert part in page


def volumes(root: Path, number: int) -> World:
    """`number` patients with two volumes each; the model is perfect."""
    truths = {f"p{i:02d}_{n}": GLAND.astype(np.uint8) for i in range(number) for n in range(2)}
    world = volume_world(root, truths, lambda truth, _: truth)
    world.options["champion_arn"] = CHAMPION
    return world


def shaved(truth: np.ndarray, name: str) -> np.ndarray:
    """Worse by some voxels, in each patient others."""
    prediction = truth.copy()
    prediction[: 5 + int(name[1:3]) % 3] = 0
    return prediction


@pytest.mark.slow
def test_dice_of_volumes(tmp_path: Path) -> None:
    """A model worse than its champion is refused; bounds go by patients, not by volumes."""
    world = volumes(tmp_path, 20)
    world.approved["champion"] = world.model
    world.model = replace(world.model, predict=shaved)
    evaluation = world.score()
    comparison = only(evaluation)
    assert (comparison.num_patients, comparison.num_cases) == (20, 40)
    assert comparison.score_model == 1.0
    assert comparison.difference == pytest.approx(evaluation.score.value - 1)
    assert comparison.classes["gland"] == pytest.approx(comparison.difference)
    assert evaluation.gate.margin_left < 0


@pytest.mark.slow
def test_an_invented_structure(tmp_path: Path) -> None:
    """With an empty truth, the model that predicts a structure has 0 and the other 1; with neither it is excluded."""
    truths = {f"p{i:02d}": (GLAND if i < 20 else np.zeros_like(GLAND)).astype(np.uint8) for i in range(22)}
    world = volume_world(tmp_path, truths, lambda truth, _: truth)
    world.options["champion_arn"] = CHAMPION
    world.approved["champion"] = replace(
        world.model, predict=lambda truth, name: GLAND.astype(np.uint8) if name == "p20" else truth
    )
    comparison = only(world.score())
    assert comparison.num_patients == 21
    assert comparison.score_candidate == 1.0
    assert comparison.difference == pytest.approx(1 / 21)
