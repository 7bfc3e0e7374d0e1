"""Comparison of the candidate with approved versions, on test patients that neither was trained on; and the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medloop.documents.evaluation import Comparison, Gate, Statistic
from medloop.documents.names import normalise
from medloop.documents.split import SplitRecord, Task
from medloop.errors import DataError
from medloop.evaluation.cases import HeldOut
from medloop.evaluation.classification import predict_images
from medloop.evaluation.intervals.estimate import Floats
from medloop.evaluation.metrics import pair_of
from medloop.evaluation.model_scores import ModelScores
from medloop.evaluation.paired_difference import Paired, lower_bound
from medloop.evaluation.power import MIN_COMPARED, patients_needed, power
from medloop.evaluation.predictors import Loader, require_task
from medloop.evaluation.segmentation import dice_of_volumes

MAX_NOTE = 200
PREDICT: dict[Task, Callable[[Sequence[HeldOut], Any], Floats]] = {
    "classification": predict_images,
    "segmentation": dice_of_volumes,
}
"""The other model's predictions that a comparison needs: probabilities [N, C], or Dice [N, K] by structure."""
DeployMode = Literal["approval", "pipeline"]


@dataclass(frozen=True)
class ComparedVersion:
    """A version to compare with: the champion, or the first."""

    role: Literal["champion", "first"]
    arn: str
    folder: Path | None
    """Contains model.tar.gz or its files; None if the job was started without it."""


@dataclass(frozen=True)
class Candidate:
    """The candidate and its scores."""

    cases: Sequence[HeldOut]
    """Cases that it was not trained on."""
    scores: ModelScores
    classes: Sequence[str]
    split: SplitRecord
    margin: float


def compare(version: ComparedVersion, candidate: Candidate, load: Loader) -> Comparison:
    """Score an approved version on the test cases that neither model has seen, and compare by patients.

    A version that can't be used does not cost the candidate's scores: `note` has the reason.
    """
    try:
        comparison = _compare(version, candidate, load)
    except Exception as error:
        # Any error of the version's files (a missing key, another library's format) is of no concern to the
        # candidate, which is scored already.
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        print(f"{version.role} {version.arn} can't be compared: {reason}", flush=True)
        return _not_compared(version, " ".join(reason.split()))
    print(_sentence(comparison), flush=True)
    return comparison


def _compare(version: ComparedVersion, candidate: Candidate, load: Loader) -> Comparison:
    split = candidate.split
    if split.identifiers == "none":
        return _not_compared(version, "the data has no patient identifiers; add patients.csv")
    if version.folder is None:
        return _not_compared(version, f"input {version.role} is missing; upsert the pipeline again")
    model = load(version.folder, split.task)
    require_task(model.record, split.task)
    if [*map(normalise, model.record.classes)] != [*map(normalise, candidate.classes)]:
        return _not_compared(version, f"its classes differ ({', '.join(model.record.classes)})")
    seen = split.among({*model.record.patients.train, *model.record.patients.val})
    unseen = np.array([case.patient not in seen for case in candidate.cases])
    if not unseen.any():
        return _not_compared(version, "it was trained on every test patient")
    cases = [case for case, is_unseen in zip(candidate.cases, unseen, strict=True) if is_unseen]
    predictions = PREDICT[split.task](cases, model)
    pair = pair_of(split.task)(candidate.scores.scored.subset(unseen), predictions)
    if pair is None:
        num_patients = len({case.patient for case in cases})
        return _not_compared(version, "the score is undefined on so few test patients", num_patients, len(cases))
    return _compared(version, pair, len(cases), candidate.margin)


def _compared(version: ComparedVersion, pair: Paired, num_cases: int, margin: float) -> Comparison:
    spread = float(pair.values.std(ddof=1))
    return Comparison(
        role=version.role,
        model=version.arn,
        score_candidate=pair.candidate,
        score_model=pair.model,
        difference=pair.difference,
        lower_bound=lower_bound(pair.values),
        num_patients=len(pair.values),
        num_cases=num_cases,
        classes=pair.per_class,
        power=power(spread, len(pair.values), margin),
        num_patients_needed=patients_needed(spread, margin, MIN_COMPARED),
    )


def _not_compared(version: ComparedVersion, reason: str, num_patients: int = 0, num_cases: int = 0) -> Comparison:
    note = reason if len(reason) <= MAX_NOTE else reason[: MAX_NOTE - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return Comparison(role=version.role, model=version.arn, num_patients=num_patients, num_cases=num_cases, note=note)


def make_gate(
    score: Statistic, margin: float, mode: DeployMode, champion: Comparison | None, num_patients: int
) -> Gate:
    """Make the numbers that the condition step compares.

    Args:
        score: The candidate's.
        margin: The difference from the champion that still counts as not worse.
        mode: On insufficient evidence an approver decides (margin_left 0), and a pipeline stops (-1).
        champion: The comparison with the champion, if there is one.
        num_patients: Test patients scored, 0 where not known.
    """
    value, is_defined = score.value or 0.0, score.value is not None
    common = {"score": value, "margin": margin}
    if champion is None:
        enough = num_patients >= MIN_COMPARED and is_defined
        text = f"{score.name} {value:.4f}; no approved version to compare with."
        evidence = {"margin_left": 0.0, "sufficient": int(enough), "num_patients": num_patients, "champion": ""}
        return Gate.model_validate({**common, **evidence, "verdict": text})
    bound = champion.lower_bound
    enough = bound is not None and champion.num_patients >= MIN_COMPARED and is_defined
    margin_left = bound + margin if enough and bound is not None else (-1.0 if mode == "pipeline" else 0.0)
    text = f"{score.name} {value:.4f}. {_sentence(champion)}"
    if not enough:
        decides = "nothing is deployed" if mode == "pipeline" else "an approver decides"
        text += f" Insufficient evidence (fewer than {MIN_COMPARED} patients compared): {decides}."
    evidence = {"margin_left": margin_left, "sufficient": int(enough), "num_patients": champion.num_patients}
    return Gate.model_validate({**common, **evidence, "champion": champion.model, "verdict": text[:500]})


def comparison_notes(comparisons: Sequence[Comparison], test_uses: int) -> list[str]:
    """Write the notes on the comparisons."""
    notes = []
    for comparison in comparisons:
        if comparison.lower_bound is None:
            notes.append(f"INSUFFICIENT EVIDENCE. {_sentence(comparison)}")
        elif comparison.num_patients < MIN_COMPARED:
            notes.append(
                f"INSUFFICIENT EVIDENCE: {comparison.num_patients} patients are too few for a comparison with "
                f"{_title(comparison)}; {MIN_COMPARED} are needed."
            )
    if test_uses > 1:
        chance = 1 - 0.95**test_uses
        notes.append(
            f"This test set has been used {test_uses} times; at 5 % each, the chance that a worse model passed at "
            f"least once is {chance:.0%}."
        )
    return notes


def _sentence(comparison: Comparison) -> str:
    """Write one line on a comparison."""
    if comparison.difference is None or comparison.lower_bound is None:
        return f"NOT COMPARED with {_title(comparison)} {comparison.model}: {comparison.note}."
    return (
        f"Difference from {_title(comparison)} {comparison.model}: {comparison.difference:+.4f}, one-sided 95 % "
        f"lower bound {comparison.lower_bound:+.4f}, over {comparison.num_patients} patients that "
        "neither was trained on."
    )


def _title(comparison: Comparison) -> str:
    return "the champion" if comparison.role == "champion" else "the first approved version"
