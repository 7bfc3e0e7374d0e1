"""Build-time settings and run-time parameters of pipelines: where they come from and how they are checked.

Settings: the pipeline's defaults <- those that follow from the data set <- its preset's chain (`extends`) <- the
pipeline's smoke preset, where smoke=true is set <- `--set a.b=c`. They shape the definition.
Parameters: the definition's own (defaults from settings) <- the preset's `parameters` <- `--param K=V`, at every start.

Pipelines are found by the entry-point group `medloop.pipelines`: this module names none.
It loads neither torch nor the SDK.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ValidationError

from medloop.cloud.layout import MAX_PROJECT, PROJECT_PATTERN, group_name, pipeline_name, project_of
from medloop.documents.hyperparameters import REPLACEABLE_NETWORK
from medloop.documents.reading import first_problem
from medloop.documents.wandb_keys import refuse_keys
from medloop.errors import SettingError
from medloop.presets import Preset, preset_chain
from medloop.projects import pipeline_points
from medloop.setting_errors import parse_settings, setting_paths, shorten, suggest
from medloop.yaml_text import read_yaml

if TYPE_CHECKING:
    from sagemaker.mlops.workflow.pipeline import Pipeline

    from medloop.cloud.target import Target
    from medloop.documents.split_rule import Resampling, SplitRule


@dataclass(frozen=True)
class RunParameter:
    """A pipeline parameter: what can be chosen when an execution starts, without a new definition."""

    name: str
    kind: Literal["String", "Integer", "Float"]
    help: str
    setting: str | None = None
    """The setting that gives its default and whose checks its values must pass; None: every start must give it."""
    pattern: str | None = None
    """The pattern that a whole String must match."""


@dataclass(frozen=True)
class Facts:
    """Facts about a pipeline's settings that the command line needs.

    Args:
        ignored_parameters: Parameters without effect, each with the setting that decides in its place.
        labels: Structure by label value, where the settings name them.
        floors: The minimum score by class.
        split_rule: How patients are divided; None if an earlier split decides.
        quarantines: True if the split leaves out what can't be used, instead of failing.
        missing_card_fields: Fields of the model card that approval needs and the settings leave empty.
        needs_length_unit: True if a tolerance in millimetres is set, which volumes without a unit of lengths refuse.
        resampling: The voxel size of training, for which no volume may be too large; None for the default one.
    """

    ignored_parameters: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] | None = None
    floors: Mapping[str, float] = field(default_factory=dict)
    split_rule: SplitRule | None = None
    quarantines: bool = False
    missing_card_fields: Sequence[str] = ()
    needs_length_unit: bool = False
    resampling: Resampling | None = None


class ProjectSettings(BaseModel):
    """Base of every pipeline's settings: what the command line reads of them itself."""

    GROUP: ClassVar[str] = ""
    """The pipeline that it shares model groups, and so champions, with; empty: it has groups of its own."""
    project: str = ""
    """The user's project; empty: none."""


@dataclass(frozen=True)
class PipelineSpec:
    """A pipeline as the entry point offers it."""

    name: str
    task: Literal["classification", "segmentation"]
    settings: type[ProjectSettings]
    build: Callable[[Any, Target], Pipeline]
    """Settings (of the type above) and target to the SDK's pipeline."""
    parameters: tuple[RunParameter, ...]
    smoke: str | None = None
    """The preset that `--set smoke=true` lays over any other: sizes that prove a run in a minute, and no model."""
    smoke_sizes: Callable[[Any], Mapping[str, Any]] = lambda settings: {}
    """Settings to those that smoke=true makes small because of what else was chosen."""
    facts: Callable[[Any], Facts] = lambda settings: Facts()
    """Function from settings to the facts that the command line needs."""


@dataclass(frozen=True)
class DataDefaults:
    """Settings that follow from the data set: its project's name, what its model card says."""

    settings: Mapping[str, Any]
    source: str
    """The data set, to begin an error with."""


@dataclass(frozen=True)
class Resolved:
    """A pipeline with all its choices made and checked."""

    spec: PipelineSpec
    preset: str | None
    settings: ProjectSettings
    parameters: dict[str, str]
    """The parameters that differ from the definition's defaults, as StartPipelineExecution takes them."""

    @property
    def facts(self) -> Facts:
        """Facts that follow from the settings."""
        return self.spec.facts(self.settings)

    @property
    def project(self) -> str:
        """The user's project; empty: none."""
        return self.settings.project

    @property
    def pipeline(self) -> str:
        """The pipeline's name on the target."""
        return pipeline_name(self.spec.name, self.project)

    @property
    def group(self) -> str:
        """The model group in which versions are registered."""
        return group_name(self.settings.GROUP or self.spec.name, self.project)


def list_pipelines() -> list[str]:
    """Names of the installed pipelines, sorted; loads none of them."""
    return sorted({point.name for point in pipeline_points()})


def split_name(pipeline: str) -> tuple[str, str] | None:
    """The installed pipeline and the project behind a pipeline's name on a target; None if no installed one fits."""
    fitting = [name for name in list_pipelines() if f"{pipeline}-".startswith(f"{name}-")]
    name = max(fitting, key=len, default=None)
    return None if name is None else (name, pipeline[len(name) + 1 :])


def command_name(pipeline: str) -> str:
    """A pipeline's name on a target as arguments of a command: `segmentation --project prostate`."""
    name, project = split_name(pipeline) or (pipeline, "")
    return f"{name} --project {project}" if project else name


def load_pipeline(name: str) -> PipelineSpec:
    """A pipeline by its name.

    Raises:
        SettingError: No installed pipeline has this name.
    """
    for point in pipeline_points():
        if point.name == name:
            spec: PipelineSpec = point.load()
            return spec
    raise SettingError(f"pipeline {name!r} is unknown; {suggest(name, list_pipelines())}")


def resolve(
    name: str,
    preset: str | None = None,
    sets: Sequence[str] = (),
    params: Sequence[str] = (),
    *,
    project: str | None = None,
    data: DataDefaults | None = None,
) -> Resolved:
    """Make and check all choices for one pipeline.

    Args:
        name: The pipeline.
        preset: A shipped preset's name, or the path of a YAML file (it holds a `/` or ends in .yaml or .yml).
        sets: Settings as `a.b=c`, the value in YAML; later ones win.
        params: Pipeline parameters as `K=V`; later ones win.
        project: The setting `project`, with the rank of `sets`; None leaves it to preset and data.
        data: Defaults that follow from the data set; the preset wins.

    Raises:
        SettingError: Something is unknown, ill-typed or out of range; the message names it.
    """
    spec = load_pipeline(name)
    sets = [*sets, *([] if project is None else [_set_project(project)])]
    chain = [*_layers_of(data, spec), *preset_chain(preset, name)]
    parameters = {key: str(value) for _, layer in chain for key, value in layer.parameters.items()}
    settings = _merge_layers(spec, chain, {}, f"preset {preset}")
    check_parameters(spec, settings, parameters, f"preset {preset}")
    if sets:
        overrides = reduce(_merge, (_parse_set(text, spec) for text in sets))
        settings = _merge_layers(spec, chain, overrides, "--set")
    chosen = dict(_parse_param(text, spec) for text in params)
    for key in chosen:
        if setting := spec.facts(settings).ignored_parameters.get(key):
            raise SettingError(
                f"--param {key}: has no effect, {setting} decides; change that with --set, or leave it out"
            )
    parameters |= chosen
    check_parameters(spec, settings, parameters, "--param")
    return Resolved(spec, preset, settings, parameters)


def _set_project(project: str) -> str:
    """The setting of a project: quoted, as 2024 and `no` are names and not YAML's number and false."""
    if len(project) > MAX_PROJECT or not re.fullmatch(PROJECT_PATTERN, project):
        raise SettingError(
            f"--project {shorten(project)}: is no name of a project; use {MAX_PROJECT} characters at most, lower-case "
            f"letters, digits and inner hyphens, such as {project_of(project.replace('/', '-')) or 'prostate-mr'}"
        )
    return f"project='{project}'"


def _merge_layers(
    spec: PipelineSpec, chain: Sequence[tuple[str, Preset]], overrides: Mapping[str, Any], source: str
) -> ProjectSettings:
    """Merge the presets' settings in their order, then `overrides`, and check them; later ones win.

    smoke=true adds the pipeline's smoke preset after the others. Wherever the smoke preset is, `smoke_sizes` of all
    choices together belong to it: they win over the presets before it, and lose to what comes after it, which is a
    preset that extends it, or `overrides`.
    """

    def merge(sizes: Mapping[str, Any]) -> dict[str, Any]:
        layers = [_merge(layer.settings, sizes if label == spec.smoke else {}) for label, layer in chain]
        return reduce(_merge, [*layers, overrides], {})

    if spec.smoke is not None and merge({}).get("smoke") in (True, "true"):
        chain = [*chain, *preset_chain(spec.smoke, spec.name)]
    settings = parse_settings(spec.settings, merge({}), source)
    if spec.smoke in [label for label, _ in chain]:
        settings = parse_settings(spec.settings, merge(spec.smoke_sizes(settings)), source)
    return settings


def _layers_of(data: DataDefaults | None, spec: PipelineSpec) -> list[tuple[str, Preset]]:
    """The data set's settings as a layer below the presets; none without a data set."""
    if data is None:
        return []
    parse_settings(spec.settings, dict(data.settings), data.source)
    return [(data.source, Preset(description=data.source, pipeline=spec.name, settings=dict(data.settings)))]


def check_parameters(spec: PipelineSpec, settings: BaseModel, parameters: Mapping[str, str], source: str) -> None:
    """Refuse unknown parameters, and values that the setting behind a parameter would refuse.

    Args:
        spec: The pipeline.
        settings: Its settings, whose values the other parameters have.
        parameters: Parameter to its value, as text.
        source: Their origin, to begin the error with.

    Raises:
        SettingError: The message names the parameter.
    """
    known = {parameter.name: parameter for parameter in spec.parameters}
    chosen = settings.model_dump()
    for name, text in parameters.items():
        if name not in known:
            raise SettingError(f"{source} {name}: no such pipeline parameter; {suggest(name, list(known))}")
        _check_value(known[name], text, source)
        if (path := known[name].setting) is not None:
            *parents, last = path.split(".")
            group = chosen
            for parent in parents:
                group = group[parent]
            group[last] = text
    try:
        spec.settings.model_validate(chosen, context=REPLACEABLE_NETWORK)
    except ValidationError as error:
        by_path = {parameter.setting: parameter.name for parameter in spec.parameters}
        problem = first_problem(error)
        blamed = by_path.get(problem.field) or "; ".join(sorted(parameters))
        shown = shorten(parameters.get(blamed, ""))
        raise SettingError(f"{source} {blamed}={shown}: {problem.reason}; fix its value") from None


def setting_value(settings: BaseModel, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _parse_set(text: str, spec: PipelineSpec) -> dict[str, Any]:
    path, value = _split_pair(text, "--set", "a.b=value")
    if path in (parameter.name for parameter in spec.parameters):
        raise SettingError(f"--set {path}: is a pipeline parameter; write --param {text}")
    nested: Any = read_yaml(value, f"--set {path}")
    for part in reversed(path.split(".")):
        nested = {part: nested}
    return dict(nested)


def _parse_param(text: str, spec: PipelineSpec) -> tuple[str, str]:
    name, value = _split_pair(text, "--param", "Name=value")
    if name in setting_paths(spec.settings):
        raise SettingError(f"--param {name}: is a setting; write --set {text}")
    return name, value


def _split_pair(text: str, option: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    refuse_keys({key.strip(): value}, option)
    if not equals or not key.strip():
        raise SettingError(f"{option} {text}: must be {form}")
    return key.strip(), value.strip()


def _check_value(parameter: RunParameter, text: str, source: str) -> None:
    if parameter.kind == "String":
        if parameter.pattern is not None and not re.fullmatch(parameter.pattern, text):
            raise SettingError(f"{source} {parameter.name}={shorten(text)}: must be {parameter.help}; fix its value")
        return
    try:
        number = int(text) if parameter.kind == "Integer" else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        kind = "a whole number" if parameter.kind == "Integer" else "a number"
        raise SettingError(f"{source} {parameter.name}={shorten(text)}: must be {kind}; fix its value")
