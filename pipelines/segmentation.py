"""3D segmentation: Split -> Train -> Champion -> Evaluate -> Gate -> Register | Fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medloop.settings import PipelineSpec
from steps.champion import ChampionSettings, champion_step
from steps.common import Context, PipelineSettings
from steps.deploy import SegmentationDeploySettings, deploy_steps
from steps.evaluate import EvaluateSettings, evaluate_step
from steps.gate import GateSettings, gate_step
from steps.parameters import PARAMETERS, facts
from steps.register import RegisterSettings, register_step
from steps.split import DataSettings, SplitData, SplitSettings, split_step
from steps.trainer import SegmentationTrainSettings, smoke_sizes
from steps.tune import TuneSettings, train_or_tune

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.pipeline import Pipeline

    from medloop.cloud.target import Target


class SegmentationSettings(PipelineSettings):
    """All that is chosen when the definition is built."""

    data: DataSettings = DataSettings()
    split: SplitSettings = SplitSettings()
    train: SegmentationTrainSettings = SegmentationTrainSettings()
    tune: TuneSettings = TuneSettings()
    champion: ChampionSettings = ChampionSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings(min_score=0.7)
    registration: RegisterSettings = RegisterSettings()
    deploy: SegmentationDeploySettings = SegmentationDeploySettings()


def build(settings: SegmentationSettings, target: Target) -> Pipeline:
    """Make the SDK's pipeline."""
    context = Context.open("segmentation", "segmentation", settings, target, PARAMETERS)

    split = split_step(context, settings.split, settings.data, settings.train.hyperparameters.resampling)
    data = SplitData(split, settings.split, settings.data)
    trained = settings.train.with_length_unit(settings.evaluate.length_unit)
    train, model = train_or_tune(context, trained, settings.tune, "segment", data)
    champion = champion_step(context, settings.champion, split, model)
    evaluate = evaluate_step(context, settings.evaluate, data, model, champion, settings.deploy.mode)
    register = register_step(context, settings.registration, split, model, evaluate)
    deploy = deploy_steps(context, settings.deploy, model, evaluate)
    gate = gate_step(context, evaluate, passed=[register, *deploy])

    return context.pipeline_of([split, train, champion, evaluate, gate])


PIPELINE = PipelineSpec(
    name="segmentation",
    task="segmentation",
    settings=SegmentationSettings,
    build=build,
    parameters=PARAMETERS,
    smoke="smoke-segmentation",
    smoke_sizes=smoke_sizes,
    facts=lambda s: facts(
        s.split, s.tune, s.registration, s.evaluate, s.data.labels, s.train.hyperparameters.resampling
    ),
)
