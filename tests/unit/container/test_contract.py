"""The job's side of SageMaker's contract (medloop.container)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from medloop.container.arguments import parse_arguments, read_pairs
from medloop.container.processing import ProcessingJob
from medloop.container.training import TrainingJob
from medloop.errors import DataError, SettingError


@pytest.fixture
def ml_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A contract's root, as the service (or the local backend) lays it out."""
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (tmp_path / "input" / "data" / "train").mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps({"epochs": "3", "model_name": '"vit"'}))
    (config / "inputdataconfig.json").write_text(json.dumps({"train": {"TrainingInputMode": "File"}}))
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    return tmp_path


class TestTrainingJob:
    """What a training job reads."""

    def test_reads_the_contracts_files(self, ml_root: Path) -> None:
        """Hyperparameters as text, channels by name, the folders below the root."""
        job = TrainingJob.read(["train"], {})
        assert job.hyperparameters == {"epochs": "3", "model_name": '"vit"'}
        assert job.channel("train") == ml_root / "input" / "data" / "train"
        assert job.model_dir == ml_root / "model"

    def test_argument_wins_over_script_mode_wins_over_files(self, ml_root: Path, tmp_path: Path) -> None:
        """The order that the design fixes."""
        env = {"SM_HPS": '{"epochs": 5, "model_name": "unet"}', "SM_MODEL_DIR": str(ml_root / "sm")}
        job = TrainingJob.read(["train", "--epochs", "7", "--model-dir", str(tmp_path / "out")], env)
        assert job.hyperparameters == {"epochs": "7", "model_name": "unet"}
        assert job.model_dir == tmp_path / "out"
        assert TrainingJob.read(["train"], env).model_dir == ml_root / "sm"

    def test_hyphens_of_an_argument_are_underscores_of_a_hyperparameter(self, ml_root: Path) -> None:
        """Both spellings reach the same hyperparameter."""
        assert TrainingJob.read(["--batch-size=4"], {}).hyperparameters["batch_size"] == "4"

    def test_tuned_jobs_have_checkpoints_of_their_own(self, ml_root: Path) -> None:
        """The service gives all trials one folder; a resumed trial finds its own subfolder."""
        (ml_root / "input/config/hyperparameters.json").write_text('{"_tuning_objective_metric": "val_dice"}')
        first, second = (TrainingJob.read(["train"], {"TRAINING_JOB_NAME": name}) for name in ("t-001", "t-002"))
        assert first.checkpoint_dir == ml_root / "checkpoints" / "t-001"
        assert second.checkpoint_dir != first.checkpoint_dir
        assert first.checkpoint_dir.is_dir()
        assert TrainingJob.read(["train"], {}).checkpoint_dir == ml_root / "checkpoints"

    @pytest.mark.parametrize("name", ["", "..", "../../model", "a/b", "a" * 300])
    def test_a_name_that_is_none_makes_no_folder(self, ml_root: Path, name: str) -> None:
        """The contract's folder is taken."""
        (ml_root / "input/config/hyperparameters.json").write_text('{"_tuning_objective_metric": "val_dice"}')
        assert TrainingJob.read(["train"], {"TRAINING_JOB_NAME": name}).checkpoint_dir == ml_root / "checkpoints"

    def test_missing_channel_is_named(self, ml_root: Path) -> None:
        """With the channels that were given."""
        with pytest.raises(DataError, match="channel val is missing; given: train"):
            TrainingJob.read(["train"], {}).channel("val")

    @pytest.mark.parametrize("content", ["", "[1]", "{"])
    def test_broken_configuration_is_named(self, ml_root: Path, content: str) -> None:
        """One line, not a traceback."""
        (ml_root / "input" / "config" / "hyperparameters.json").write_text(content)
        with pytest.raises(SettingError, match=r"hyperparameters\.json"):
            TrainingJob.read(["train"], {})


class TestProcessingJob:
    """What a processing job reads."""

    def test_folders_by_hand_win(self, ml_root: Path, tmp_path: Path) -> None:
        """`--input-NAME` and `--output-NAME` stand for the contract's folders and are no arguments."""
        folder = tmp_path / "mine"
        folder.mkdir()
        job = ProcessingJob.read(["--input-data", str(folder), "--seed", "3"])
        assert job.input("data") == folder
        assert job.arguments == {"seed": "3"}
        assert job.output("train") == ml_root / "processing" / "output" / "train"
        assert job.optional_input("previous") is None

    def test_missing_input_is_named(self, ml_root: Path) -> None:
        """With the way to give it by hand."""
        with pytest.raises(DataError, match="input data is missing; set --input-data DIR"):
            ProcessingJob.read([]).input("data")

    def test_exit_message_is_written_for_the_service(self, ml_root: Path) -> None:
        """ExitMessage."""
        (ml_root / "output").mkdir()
        ProcessingJob.read([]).set_exit_message("80 cases")
        assert (ml_root / "output" / "message").read_text() == "80 cases"


class Arguments(BaseModel):
    """Arguments of a pretended job."""

    model_config = ConfigDict(extra="forbid")
    task: str
    seed: int = 0
    labels: list[str] | None = None


class TestArguments:
    """Arguments on the command line."""

    def test_types_are_those_of_the_model(self) -> None:
        """Numbers from text, lists from JSON, text that looks like a number stays text."""
        read = parse_arguments(Arguments, {"task": "1", "seed": "4", "labels": '["a", "b"]'})
        assert read == Arguments(task="1", seed=4, labels=["a", "b"])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"task": "x", "sed": "3"}, "argument --sed is unknown; known: --labels, --seed, --task"),
            ({"task": "x", "seed": "three"}, "argument --seed='three'"),
            ({"seed": "3"}, "argument --task is missing"),
        ],
    )
    def test_wrong_one_is_named(self, arguments: dict[str, str], message: str) -> None:
        """The message names the argument and the fix."""
        with pytest.raises(SettingError) as caught:
            parse_arguments(Arguments, arguments)
        assert message in str(caught.value)

    @pytest.mark.parametrize("argv", [["seed", "3"], ["--seed"], ["--seed", "3", "--seed", "4"], ["--", "x"]])
    def test_malformed_line_is_refused(self, argv: list[str]) -> None:
        """Nothing is guessed."""
        with pytest.raises(SettingError):
            read_pairs(argv)


TERMINATED = "from medloop.errors import Terminated; raise Terminated('stopped; resumes')"
SIGNALLED = "import os; os.kill(os.getpid(), 15); os.kill(os.getpid(), 15)"
EXPECTED = "from medloop.errors import DataError; raise DataError('img.png: broken; fix it')"


@pytest.mark.parametrize(
    ("kind", "statement", "code", "name", "begins"),
    [
        ("training", EXPECTED, 2, "failure", "img.png: broken; fix it"),
        ("processing", "raise ValueError('boom')", 1, "message", "ValueError: boom\nTraceback"),
        ("training", "raise ValueError('x' * 5000)", 1, "failure", "ValueError: xxx"),
        ("training", "pass", 0, "failure", None),
        ("training", TERMINATED, 143, "failure", None),
        ("training", SIGNALLED, 143, "failure", None),
    ],
)
def test_failure_contract(tmp_path: Path, kind: str, statement: str, code: int, name: str, begins: str | None) -> None:
    """Expected errors: one line, exit 2; bugs: the exception, its traceback, exit 1; SIGTERM: no failure, exit 143."""
    (tmp_path / "output").mkdir()
    program = f"from medloop.container.run import run\ndef main():\n    {statement}\nrun(main, kind={kind!r})\n"
    env = {"ML_ROOT": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code
    path = tmp_path / "output" / name
    assert path.exists() == (begins is not None)
    if begins is not None:
        assert path.read_text().startswith(begins)
        assert len(path.read_text()) <= 1024
