"""2D image classification: Split -> Train -> Champion -> Evaluate -> Gate -> Register | Fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medloop.settings import PipelineSpec
from steps.champion import ChampionSettings, champion_step
from steps.common import Context, PipelineSettings
from steps.deploy import ClassificationDeploySettings, deploy_steps
from steps.evaluate import EvaluateSettings, evaluate_step
from steps.gate import GateSettings, gate_step
from steps.parameters import PARAMETERS, facts
from steps.register import RegisterSettings, register_step
from steps.split import SplitData, SplitSettings, split_step
from steps.trainer import ClassificationTrainSettings, smoke_sizes
from steps.tune import TuneSettings, train_or_tune

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.pipeline import Pipeline

    from medloop.cloud.target import Target


class ClassificationSettings(PipelineSettings):
    """All that is chosen when the definition is built."""

    split: SplitSettings = SplitSettings()
    train: ClassificationTrainSettings = ClassificationTrainSettings()
    tune: TuneSettings = TuneSettings()
    champion: ChampionSettings = ChampionSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings(min_score=0.8)
    registration: RegisterSettings = RegisterSettings()
    deploy: ClassificationDeploySettings = ClassificationDeploySettings()


def build(settings: ClassificationSettings, target: Target) -> Pipeline:
    """Make the SDK's pipeline."""
    context = Context.open("classification", "classification", settings, target, PARAMETERS)

    split = split_step(context, settings.split)
    data = SplitData(split, settings.split)
    train, model = train_or_tune(context, settings.train, settings.tune, "classify", data)
    champion = champion_step(context, settings.champion, split, model)
    evaluate = evaluate_step(context, settings.evaluate, data, model, champion, settings.deploy.mode)
    register = register_step(context, settings.registration, split, model, evaluate)
    deploy = deploy_steps(context, settings.deploy, model, evaluate)
    gate = gate_step(context, evaluate, passed=[register, *deploy])

    return context.pipeline_of([split, train, champion, evaluate, gate])


PIPELINE = PipelineSpec(
    name="classification",
    task="classification",
    settings=ClassificationSettings,
    build=build,
    parameters=PARAMETERS,
    smoke="smoke-classification",
    smoke_sizes=smoke_sizes,
    facts=lambda s: facts(s.split, s.tune, s.registration, s.evaluate),
)
