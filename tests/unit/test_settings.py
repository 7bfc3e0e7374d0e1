"""Settings, presets and parameters: where values come from, and how wrong ones are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medloop.errors import SettingError
from medloop.presets import load_presets
from medloop.setting_errors import setting_paths
from medloop.settings import list_pipelines, load_pipeline, resolve


def preset_file(folder: Path, text: str, name: str = "mine.yaml") -> str:
    """A preset of the user's own."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_settings_come_from_defaults_then_preset_then_set(tmp_path: Path) -> None:
    """Each layer overrides the one before, and leaves alone what it does not name."""
    preset = preset_file(
        tmp_path,
        "description: x\npipeline: classification\nsettings:\n"
        "  train:\n    hyperparameters: {epochs: 7, batch_size: 4}\n",
    )
    defaults = resolve("classification").settings.train.hyperparameters
    chosen = resolve("classification", preset, ["train.hyperparameters.batch_size=5"]).settings.train.hyperparameters
    assert (chosen.epochs, chosen.batch_size, chosen.seed) == (7, 5, defaults.seed)


def test_preset_extends_another(tmp_path: Path) -> None:
    """The extended preset's settings and parameters come first."""
    base = preset_file(
        tmp_path,
        "description: x\npipeline: classification\nsettings: {split: {seed: 1}, gate: {min_score: 0.5}}\n"
        "parameters: {Epochs: 3, BatchSize: 2}\n",
        "base.yaml",
    )
    child = preset_file(
        tmp_path,
        f"description: y\npipeline: classification\nextends: {base}\nsettings: {{split: {{seed: 2}}}}\n"
        "parameters: {Epochs: 4}\n",
        "child.yaml",
    )
    resolved = resolve("classification", child, params=["BatchSize=9"])
    assert (resolved.settings.split.seed, resolved.settings.gate.min_score) == (2, 0.5)
    assert resolved.parameters == {"Epochs": "4", "BatchSize": "9"}


def test_extending_in_a_circle_is_refused(tmp_path: Path) -> None:
    """Two presets that extend each other give one line, not an endless loop."""
    first, second = tmp_path / "one.yaml", tmp_path / "two.yaml"
    first.write_text(f"description: x\npipeline: classification\nextends: {second}\n", encoding="utf-8")
    second.write_text(f"description: x\npipeline: classification\nextends: {first}\n", encoding="utf-8")
    with pytest.raises(SettingError, match="extends itself"):
        resolve("classification", str(first))


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_tuned_parameter_is_refused_with_its_range_named(task: str) -> None:
    """It would have no effect; what isn't tuned, and the same one without tuning, is taken."""
    tuning = ["tune.enabled=true", "tune.ranges={batch_size: {values: [2, 4]}}"]
    with pytest.raises(SettingError) as refused:
        resolve(task, None, tuning, ["BatchSize=8"])
    assert str(refused.value) == (
        "--param BatchSize: has no effect, tune.ranges.batch_size decides; change that with --set, or leave it out"
    )
    assert resolve(task, None, tuning, ["LearningRate=0.01"]).parameters == {"LearningRate": "0.01"}
    assert resolve(task, None, tuning[1:], ["BatchSize=8"]).parameters == {"BatchSize": "8"}


def test_a_presets_own_parameter_may_be_tuned(tmp_path: Path) -> None:
    """The preset was written for training; tuning it needs no other preset."""
    preset = preset_file(tmp_path, "description: x\npipeline: segmentation\nparameters: {LearningRate: 0.01}\n")
    assert resolve("segmentation", preset, ["tune.enabled=true"]).parameters == {"LearningRate": "0.01"}


def test_parameters_take_their_defaults_from_existing_settings() -> None:
    """A parameter's `setting` is a path that the pipeline's settings have."""
    for name in list_pipelines():
        spec = load_pipeline(name)
        paths = set(setting_paths(spec.settings))
        assert {parameter.setting for parameter in spec.parameters if parameter.setting} <= paths


REFUSED = {
    "unknown pipeline": (("clasification",), "did you mean classification?"),
    "unknown preset": (("classification", "plane-dem"), "did you mean plane-demo?"),
    "preset of the other pipeline": (("classification", "brain-tissue-demo"), "is for pipeline 'segmentation'"),
    "preset that is no file": (("classification", "no/such.yaml"), "no/such.yaml: can't be read"),
    "parameter given by --set": (("classification", None, ["Epochs=3"]), "write --param Epochs=3"),
    "setting given by --param": (("classification", None, [], ["split.seed=3"]), "write --set split.seed=3"),
    "setting without its group": (("classification", None, ["seeed=3"]), "did you mean"),
    "last part alone": (("classification", None, ["epochs=3"]), "did you mean train.hyperparameters.epochs?"),
    "misspelt group": (("classification", None, ["trian.weights=1"]), "trian: no such setting; did you mean train?"),
    "misspelt setting": (("classification", None, ["split.sed=1"]), "did you mean split.seed?"),
    "nothing near": (("classification", None, ["zzz=1"]), "zzz: no such setting; known: project, cache_days,"),
    "no equals sign": (("classification", None, ["split.seed"]), "--set split.seed: must be a.b=value"),
    "ill-typed": (("classification", None, ["train.hyperparameters.epochs=many"]), "train.hyperparameters.epochs=many"),
    "out of range": (("classification", None, ["train.hyperparameters.epochs=0"]), "greater than or equal to 1"),
    "not finite": (("classification", None, ["gate.min_score=.nan"]), "gate.min_score=nan"),
    "a value for a group": (("classification", None, ["train=3"]), "--set train=3"),
    "shares": (("classification", None, ["split.train=0.5"]), "must sum to 1, not 0.8"),
    "settings at odds": (
        ("classification", None, ["train.hyperparameters.model_name=vit", "train.hyperparameters.image_size=100"]),
        "multiple of 16",
    ),
    "instance": (("classification", None, ["train.instance_type=g5"]), "train.instance_type=g5"),
    "labels too long": (("segmentation", None, [f"data.labels=[a, {'b' * 300}]"]), "longer than 256 characters"),
    "labels of an image pipeline": (("classification", None, ["data.labels=[a, b]"]), "data: no such setting"),
    "unknown parameter": (("classification", None, [], ["Epoch=1"]), "did you mean Epochs?"),
    "ill-typed parameter": (("classification", None, [], ["Epochs=x"]), "--param Epochs=x: must be a whole number"),
    "parameter out of range": (("classification", None, [], ["Epochs=0"]), "--param Epochs=0"),
    "parameter at odds": (
        ("classification", None, ["train.hyperparameters.image_size=100"], ["ModelName=vit"]),
        "--param ModelName=vit: image_size must be a multiple of 16",
    ),
    "infinite parameter": (("classification", None, [], ["MinScore=inf"]), "MinScore=inf: must be a number"),
    "no URI": (("classification", None, [], ["InputData=/home/me"]), "InputData=/home/me: must be the images' s3://"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_choices_are_refused_by_name(case: str) -> None:
    """One line that names the field and the fix."""
    arguments, expected = REFUSED[case]
    with pytest.raises(SettingError) as caught:
        resolve(*arguments)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


HOSTILE = {
    "a list": ("- a\n- b\n", "must be a mapping"),
    "nothing": ("", "must be a mapping"),
    "not YAML": ("a: [1, 2\nb: }", "correct the YAML"),
    "python tag": ("description: !!python/object/apply:os.getcwd []\npipeline: classification\n", "constructor"),
    "aliases": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
    "a key twice": ("description: x\npipeline: classification\npipeline: segmentation\n", "pipeline is given twice"),
    "unknown key": ("description: x\npipeline: classification\nseting: {}\n", "seting: no such setting"),
    "no pipeline": ("description: x\n", "pipeline is missing"),
    "deep": ("description: " + "[" * 400 + "]" * 400, "nested too deeply"),
    "huge": ("# " + "x" * 200_000, "too many"),
    "impossible date": ("description: 2001-99-99\npipeline: classification\n", "correct the YAML"),
    "unknown setting": ("description: x\npipeline: classification\nsettings: {split: {sed: 1}}\n", "split.seed?"),
    "unknown parameter": ("description: x\npipeline: classification\nparameters: {Epoch: 1}\n", "Epochs?"),
    "parameter's value": ("description: x\npipeline: classification\nparameters: {Epochs: 0}\n", "Epochs=0"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_presets_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    """Any invalid preset file gives one line that names the file."""
    text, expected = HOSTILE[case]
    path = preset_file(tmp_path, text)
    with pytest.raises(SettingError) as caught:
        resolve("classification", path)
    assert expected in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_preset_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are an error of the user's, not of ours."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match="no UTF-8"):
        resolve("classification", str(path))


@pytest.mark.slow
def test_resolving_loads_neither_sdk_nor_torch() -> None:
    """Listing and checking settings stays fast: no boto3, no SageMaker SDK, no torch."""
    code = (
        "import sys; from medloop.settings import resolve; resolve('segmentation', 'brain-tissue-demo');"
        "print([m for m in ('boto3', 'sagemaker', 'torch', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_smoke_lays_small_sizes_over_any_preset_and_yields_to_set() -> None:
    """smoke=true makes the lab small and keeps its subject; `--set` takes precedence, in any order."""
    lab = resolve("classification", "lab-00-baseline").settings.train.hyperparameters
    smoke = resolve("classification", "lab-00-baseline", ["smoke=true"]).settings.train.hyperparameters
    assert (lab.epochs, lab.image_size) == (3, 256)
    assert (smoke.epochs, smoke.image_size, smoke.model_name) == (1, 64, lab.model_name)
    for sets in (["smoke=true", "train.hyperparameters.epochs=2"], ["train.hyperparameters.epochs=2", "smoke=true"]):
        assert resolve("classification", "lab-00-baseline", sets).settings.train.hyperparameters.epochs == 2


@pytest.mark.parametrize(
    ("preset", "setting", "small", "wide"),
    [
        ("ct-volumes", "init_filters", 8, 24),
        ("brain-tissue-demo", "unet_channels", [8, 16, 32], [8, 8]),
        ("lab-2-fsdp", "feature_size", 12, 24),
    ],
)
def test_smoke_makes_the_chosen_network_small(preset: str, setting: str, small: object, wide: object) -> None:
    """By the settings that this network takes, and no other network's; `--set` has the last word here too."""
    for sets, value in ([], small), ([f"train.hyperparameters.{setting}={wide}"], wide):
        chosen = resolve("segmentation", preset, ["smoke=true", *sets]).settings.train.hyperparameters
        assert getattr(chosen, setting) == value


def test_a_setting_of_another_network_is_refused() -> None:
    """By name, before anything is built or started."""
    message = "train.hyperparameters: feature_size is for swinunetr, not for unet"
    with pytest.raises(SettingError, match=message):
        resolve("segmentation", None, ["train.hyperparameters={model_name: unet, feature_size: 24}"])


@pytest.mark.parametrize(
    ("preset", "sets", "network"),
    [(None, ["smoke=true"], "unet"), ("ct-volumes", [], "swinunetr"), ("brain-tissue-demo", [], "segresnet")],
)
def test_a_parameter_can_choose_another_network_than_the_settings(
    preset: str | None, sets: list[str], network: str
) -> None:
    """The sizes of the configured network are no error: the job of the other one ignores them."""
    assert resolve("segmentation", preset, sets, [f"ModelName={network}"]).parameters["ModelName"] == network


def test_the_smoke_preset_by_itself_has_a_small_network_too() -> None:
    """As `--preset smoke-segmentation`, without smoke=true."""
    assert resolve("segmentation", "smoke-segmentation").settings.train.hyperparameters.init_filters == 8


WIDE = "extends: smoke-segmentation, settings: {train: {hyperparameters: {init_filters: 24}}}"
SMOKE_CT = "extends: ct-volumes, settings: {smoke: true}"


@pytest.mark.parametrize(
    ("preset", "sets", "network", "setting", "value"),
    [
        ("extends: smoke-segmentation", [], "segresnet", "init_filters", 8),
        ("extends: smoke-segmentation", ["model_name=unet"], "unet", "unet_channels", [8, 16, 32]),
        (WIDE, [], "segresnet", "init_filters", 24),
        (WIDE, ["smoke=true"], "segresnet", "init_filters", 8),
        (WIDE, ["init_filters=32"], "segresnet", "init_filters", 32),
        (SMOKE_CT, [], "segresnet", "init_filters", 8),
        (SMOKE_CT, ["init_filters=24"], "segresnet", "init_filters", 24),
        (SMOKE_CT, ["smoke=false"], "segresnet", "init_filters", 32),
        ("extends: lab-2-fsdp", ["smoke=1"], "swinunetr", "feature_size", 12),
    ],
)
def test_smoke_sizes_win_over_what_the_smoke_preset_is_laid_over_and_lose_to_what_follows(
    tmp_path: Path, preset: str, sets: list[str], network: str, setting: str, value: object
) -> None:
    """By one rule, for a preset that extends the smoke preset and for smoke=true of a preset or of `--set`."""
    file = preset_file(tmp_path, f"{{description: mine, pipeline: segmentation, {preset}}}")
    sets = [text if text.startswith("smoke") else f"train.hyperparameters.{text}" for text in sets]
    chosen = resolve("segmentation", file, sets).settings.train.hyperparameters
    assert (chosen.model_name, getattr(chosen, setting)) == (network, value)


@pytest.mark.parametrize("name", load_presets())
@pytest.mark.parametrize("sets", [[], ["smoke=true"]])
def test_every_shipped_preset_resolves_also_in_smoke_size(name: str, sets: list[str]) -> None:
    """No shipped preset names a setting that doesn't exist, or a value out of range."""
    preset = load_presets()[name]
    assert resolve(preset.pipeline, name, sets).preset == name
