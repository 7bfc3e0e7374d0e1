"""The search of a tuning job: the next hyperparameters, the trials to stop early; SageMaker's strategies on Optuna.

Trials are drawn in rounds and reported in the order of their numbers, in whichever order they end; decisions
follow the order in which a log reports values, never the clock. So a seed repeats a search as far as its jobs repeat.
"""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medloop.local.state.store import Document
from medloop.local.tuning.ranges import CategoricalRange, Position, Range, read_ranges

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import Trial as OptunaTrial

DEFAULT_SEED = 1
"""The seed of a search without RandomSeed: the service chooses one, and locally a run is repeatable."""
_REDUCTION = 3
"""Hyperband keeps one in so many trials at each rung (Li et al., JMLR 18, 2018, recommend 3 or 4)."""
_MIN_PREVIOUS = 3
"""Early stopping compares with no fewer earlier trials than this."""


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of an earlier tuning: its tuned hyperparameters as text, and its objective."""

    hyperparameters: dict[str, str]
    value: float


@dataclass
class SearchTrial:
    """One trial in progress.

    Args:
        number: From 1, in the order in which they are drawn.
        hyperparameters: The tuned ones, as the job gets them.
    """

    number: int
    hyperparameters: dict[str, str]
    optuna: OptunaTrial
    series: list[float] = field(default_factory=list)
    """The objective's values in the order of the log."""
    stopped: bool = False
    """True once the search has decided to stop it."""


class Search:
    """The search of one tuning job.

    Args:
        config: HyperParameterTuningJobConfig.
        static: StaticHyperParameters, in which Hyperband looks for the greatest number of epochs.
        known: Trials of earlier tunings to start from.

    Raises:
        ServiceError: The ranges can't be searched.
    """

    def __init__(self, config: Document, static: dict[str, str], known: list[EarlierTrial]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.ranges = read_ranges(config)
        self.strategy: str = config["Strategy"]
        self.maximise = config["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
        self.early_stopping = config.get("TrainingJobEarlyStoppingType", "Off") == "Auto"
        self.previous: list[list[float]] = []
        self._num_drawn = 0
        self.study: Study = optuna.create_study(
            study_name="tuning",  # Hyperband's brackets hang from it
            direction="maximize" if self.maximise else "minimize",
            sampler=_sampler(self.strategy, config, len(known)),
            pruner=_pruner(self.strategy, config, static),
        )
        self._left = grid(self.ranges) if self.strategy == "Grid" else None
        for trial in known:
            self._add(trial)

    def draw(self, count: int) -> list[SearchTrial]:
        """The next trials, no more than `count`; fewer at the end of a grid."""
        drawn = []
        for _ in range(count):
            if self._left is not None:
                if not self._left:
                    break
                self.study.enqueue_trial(self._left.pop(0))
            trial = self.study.ask({item.name: item.distribution() for item in self.ranges})
            texts = {item.name: item.text(trial.params[item.name]) for item in self.ranges}
            self._num_drawn += 1
            drawn.append(SearchTrial(self._num_drawn, texts, trial))
        return drawn

    def report(self, trial: SearchTrial, value: float) -> bool:
        """Take the objective's next value; returns whether the trial is to be stopped."""
        if trial.stopped:
            return True
        trial.series.append(value)
        trial.optuna.report(value, step=len(trial.series))
        if self.strategy == "Hyperband":
            trial.stopped = trial.optuna.should_prune()
        elif self.early_stopping:
            trial.stopped = self._is_behind(trial.series)
        return trial.stopped

    def end_round(self, trials: list[SearchTrial], values: list[float | None]) -> None:
        """End a round.

        Args:
            trials: All trials of the round, in order.
            values: The objective of each; None of a trial that has none (it failed, or reported nothing).
        """
        from optuna.trial import TrialState

        for trial, value in zip(trials, values, strict=True):
            if value is None:
                self.study.tell(trial.optuna, state=TrialState.FAIL)
            elif trial.stopped:
                self.study.tell(trial.optuna, state=TrialState.PRUNED)
            else:
                self.study.tell(trial.optuna, value)
            if trial.series:
                self.previous.append(trial.series)

    def _is_behind(self, series: list[float]) -> bool:
        """SageMaker's rule: worse than the median of the earlier trials' running averages up to the same epoch.

        https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-early-stopping.html
        """
        epoch = len(series)
        averages = [statistics.fmean(values[:epoch]) for values in self.previous if len(values) >= epoch]
        if len(averages) < _MIN_PREVIOUS:
            return False
        median = statistics.median(averages)
        return series[-1] < median if self.maximise else series[-1] > median

    def _add(self, known: EarlierTrial) -> None:
        """Add an earlier trial, if all its values are within the ranges."""
        from optuna.trial import create_trial

        positions: dict[str, Position] = {}
        for item in self.ranges:
            position = item.position(known.hyperparameters.get(item.name, ""))
            if position is None:
                return
            positions[item.name] = position
        distributions = {item.name: item.distribution() for item in self.ranges}
        self.study.add_trial(create_trial(params=positions, distributions=distributions, value=known.value))


def grid(ranges: list[Range]) -> list[dict[str, Position]]:
    """Every combination of a grid, the last hyperparameter's values changing fastest."""
    choices = [item for item in ranges if isinstance(item, CategoricalRange)]
    combinations = itertools.product(*(item.values for item in choices))
    return [dict(zip((item.name for item in choices), values, strict=True)) for values in combinations]


def max_resource(config: Document, static: dict[str, str]) -> int | None:
    """Hyperband's greatest number of epochs, as given or as the service infers it; None where it can't."""
    hyperband = (config.get("StrategyConfig") or {}).get("HyperbandStrategyConfig") or {}
    texts = [static.get(name) for name in ("epochs", "numepochs", "n-epochs", "n_epochs", "num_epochs")]
    most = hyperband.get("MaxResource") or next((text for text in texts if text is not None), None)
    try:
        return int(most) if most is not None and int(most) > 0 else None
    except ValueError:
        return None


def _sampler(strategy: str, config: Document, num_known: int) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    seed = config.get("RandomSeed", DEFAULT_SEED)
    if strategy in ("Random", "Grid"):
        return RandomSampler(seed=seed)
    jobs = config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 1)
    # A third of the jobs explores (Optuna's own default of ten would leave a tuning of eight to chance).
    startup = max(2, min(10, math.ceil(jobs / 3)))
    return TPESampler(seed=seed, n_startup_trials=0 if num_known >= startup else startup, constant_liar=True)


def _pruner(strategy: str, config: Document, static: dict[str, str]) -> BasePruner:
    from optuna.pruners import HyperbandPruner, NopPruner

    if strategy != "Hyperband":
        return NopPruner()
    hyperband = (config.get("StrategyConfig") or {}).get("HyperbandStrategyConfig") or {}
    most = max_resource(config, static) or 1
    return HyperbandPruner(min(hyperband.get("MinResource", 1), most), most, _REDUCTION)
