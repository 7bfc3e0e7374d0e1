"""The summary at the top of the page: a sentence to quote, and the checks that an approval depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medloop.documents.evaluation import Comparison, Evaluation, Floor
from medloop.documents.split_rule import MIN_PATIENTS
from medloop.evaluation.power import ENOUGH, MIN_COMPARED
from medloop.evaluation.report.statistics_tables import title_of

LABELS = {"good": "passed", "warn": "needs attention", "bad": "failed", "none": "not assessed"}
State = Literal["good", "warn", "bad", "none"]
MAX_LISTED = 6


@dataclass(frozen=True)
class Check:
    """One line of the summary."""

    state: State
    title: str
    finding: str

    @property
    def label(self) -> str:
        """The state as text: some readers can't see the colour."""
        return LABELS[self.state]


def checks(evaluation: Evaluation) -> list[Check]:
    """List all checks, in the order in which an approver asks."""
    return [
        _patients(evaluation),
        _champion(evaluation),
        _floors(evaluation.floors),
        _leakage(evaluation),
        _uses(evaluation.test_uses),
        _first(evaluation),
    ]


def headline(checks: list[Check]) -> tuple[State, str]:
    """Return the worst state, and the checks that have it."""
    starts: dict[State, str] = {"bad": "Against approval", "warn": "Needs attention"}
    for state, start in starts.items():
        titles = [check.title.lower() for check in checks if check.state == state]
        if titles:
            return state, f"{start}: {', '.join(titles)}"
    return "good", "No check speaks against approval"


def sentence(evaluation: Evaluation) -> str:
    """Write the sentence to quote."""
    parts = [_score_sentence(evaluation), _champion_sentence(evaluation)]
    below = [floor for floor in evaluation.floors if _below(floor)]
    if evaluation.floors:
        names = ", ".join(floor.class_name for floor in below[:MAX_LISTED])
        parts.append(f"Below their floor: {names}." if below else "Every class with a floor reaches it.")
    if evaluation.test_uses > 1:
        parts.append(f"{evaluation.test_uses} candidates were scored on this test set, this one included.")
    return " ".join(parts).replace(" %", "\N{NO-BREAK SPACE}%")


def _score_sentence(evaluation: Evaluation) -> str:
    score, data = evaluation.score, evaluation.data
    title = title_of(score.name)
    title = title if title[:2].isupper() else title[:1].lower() + title[1:]
    cases = _number(data.num_cases, "case")
    unseen = "" if data.leakage.status == "unknown" else " that it was not trained on"
    if data.num_patients is None:
        test_set = f"{cases} of an unknown number of patients; some may be in its training data"
    else:
        test_set = f"{cases} of {_number(data.num_patients, 'patient')}{unseen}"
    if score.interval:
        low, high = score.interval.lower, score.interval.upper
        spread = f"{100 * score.interval.level:.0f} % interval {low:.3f} to {high:.3f}"
    else:
        spread = "no interval"
    return f"On {test_set}, the model's {title} is {score.value:.3f} ({spread})."


def _champion_sentence(evaluation: Evaluation) -> str:
    gate, comparison = evaluation.gate, find_comparison(evaluation, "champion")
    if not gate.champion:
        return "There is no approved version to compare it with."
    if not gate.sufficient or comparison is None or comparison.difference is None:
        return "This test set can't show whether it is worse than the approved version."
    verdict = "It is not worse than" if gate.margin_left >= 0 else "It is not shown to be as good as"
    return f"{verdict} the approved version {comparison.model}: {_difference(comparison, gate.margin)}."


def find_comparison(evaluation: Evaluation, role: str) -> Comparison | None:
    """Find the comparison with the newest approved version (`champion`) or the oldest (`first`)."""
    return next((entry for entry in evaluation.comparisons if entry.role == role), None)


def _difference(comparison: Comparison, margin: float) -> str:
    bound = "" if comparison.lower_bound is None else f", one-sided 95 % lower bound {comparison.lower_bound:+.3f}"
    patients = _number(comparison.num_patients, "patient")
    return f"difference {comparison.difference:+.3f}{bound}, margin {margin:.3f}, {patients}"


def _patients(evaluation: Evaluation) -> Check:
    number, title = evaluation.data.num_patients, "Test patients"
    if number is None:
        return Check("warn", title, "Unknown: the data has no patient identifiers, so no interval is given.")
    if number < MIN_PATIENTS:
        return Check("warn", title, f"{number}: too few to generalise to other patients; no interval is given.")
    if number < MIN_COMPARED:
        return Check("warn", title, f"{number}: enough for an interval, too few to compare models ({MIN_COMPARED}).")
    return Check("good", title, f"{number}: enough for intervals and for a comparison of two models.")


def _champion(evaluation: Evaluation) -> Check:
    gate, comparison = evaluation.gate, find_comparison(evaluation, "champion")
    title = "Comparison with the champion"
    if not gate.champion:
        return Check("none", title, "There is no approved version to compare with.")
    if comparison is None or comparison.difference is None:
        reason = comparison.note if comparison is not None and comparison.note else gate.verdict
        return Check("warn", title, f"Insufficient evidence: not compared. {reason}".strip())
    detail = f"{_difference(comparison, gate.margin)}. {_power(comparison)}".strip()
    if not gate.sufficient:
        return Check("warn", title, f"Insufficient evidence: {detail}")
    if gate.margin_left >= 0:
        return Check("good", title, f"Not worse: {detail}")
    return Check("bad", title, f"Not shown to be as good: the lower bound is below minus the margin: {detail}")


def _power(comparison: Comparison) -> str:
    if comparison.power is None:
        return ""
    text = f"With this many patients, an equally good model passes in {100 * comparison.power:.0f} % of test sets"
    needed = comparison.num_patients_needed
    if needed is None or comparison.power >= ENOUGH:
        return f"{text}."
    return f"{text}; {100 * ENOUGH:.0f} % need {needed} patients."


def _below(floor: Floor) -> bool:
    return floor.value is None or floor.value < floor.floor


def _floors(floors: list[Floor]) -> Check:
    title = "Floors by class"
    if not floors:
        return Check("none", title, "No floor is set.")
    below = [floor for floor in floors if _below(floor)]
    shown = below or sorted(floors, key=lambda floor: (floor.value or 0) - floor.floor)
    texts = [
        f"{f.class_name} {'undefined' if f.value is None else format(f.value, '.3f')} (floor {f.floor:.3f})"
        for f in shown[:MAX_LISTED]
    ]
    more = f" and {len(shown) - MAX_LISTED} more" if len(shown) > MAX_LISTED else ""
    start = "Below the floor" if below else "All reached; closest first"
    return Check("bad" if below else "good", title, f"{start}: {', '.join(texts)}{more}.")


def _leakage(evaluation: Evaluation) -> Check:
    leakage = evaluation.data.leakage
    states: dict[str, State] = {"none": "good", "found": "bad", "unknown": "warn"}
    return Check(states[leakage.status], "Leakage", f"{leakage.note[:1].upper()}{leakage.note[1:]}.")


def _uses(uses: int) -> Check:
    title = "Uses of the test set"
    if uses == 1:
        return Check("good", title, "1: no other candidate was scored on it.")
    return Check("warn", title, f"{uses}: with more candidates, the best score is more likely to be chance.")


def _first(evaluation: Evaluation) -> Check:
    title = "Comparison with the first approved version"
    comparison = find_comparison(evaluation, "first")
    if comparison is None:
        champion = find_comparison(evaluation, "champion")
        text = "The champion is the first approved version." if champion else "There is no approved version."
        return Check("none", title, text)
    if comparison.difference is None:
        return Check("warn", title, f"Not compared: {comparison.note}")
    drifted = comparison.difference < -evaluation.gate.margin
    state: State = "warn" if drifted else "good"
    trend = "Worse by more than the margin: small declines add up" if drifted else "No decline since then"
    return Check(state, title, f"{trend}: {_difference(comparison, evaluation.gate.margin)}.")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
