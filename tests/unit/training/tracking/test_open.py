"""Which trackers a job has, by its environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from medloop.training.tracking.base import RunInfo
from medloop.training.tracking.open import tracking
from tests.unit.training.tracking.fakes import INFO


def info(**environ: str) -> RunInfo:
    """A run with that environment."""
    return RunInfo("segmentation", {}, "c", "d", environ)


def test_tags_link_the_run() -> None:
    """The execution's identifier is read from the job's name, as the service forms it; by hand there is none."""
    assert INFO.tags["medloop.execution"] == "abcdefghij12"
    assert INFO.tags["medloop.training_job"] == INFO.name
    by_hand = info(TRAINING_JOB_NAME="my-job").tags
    assert "medloop.execution" not in by_hand
    assert by_hand["medloop.model_group"] == "medloop-segmentation"


def test_only_rank_0_tracks(tmp_path: Path) -> None:
    """Of two processes that train one model, one writes event files."""
    for rank in ("1", "0"):
        with tracking(info(RANK=rank), tmp_path / rank) as run:
            run.metrics({"train_loss": 1.0}, 1)
    assert not (tmp_path / "1").exists()
    assert list((tmp_path / "0" / "tensorboard").iterdir())


def test_event_files_hold_numbers_and_pictures_and_go_where_the_step_says(tmp_path: Path) -> None:
    """The folder that the service copies while the job runs."""
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracking(info(MEDLOOP_TENSORBOARD_DIR=str(tmp_path / "events")), tmp_path / "out") as run:
        run.metrics({"val_dice": 0.5, "best_val_dice": 0.75}, 3)
        run.pictures(lambda: {"case_1": np.zeros((4, 6, 3), np.uint8)}, 3)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]} == {
        "val_dice": [(3, 0.5)],
        "best_val_dice": [(3, 0.75)],
    }
    (picture,) = events.Images("case_1")
    assert (picture.width, picture.height, picture.step) == (6, 4, 3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"MLFLOW_TRACKING_URI": "local"}, "MLflow is off (ValueError: TrackingUri must begin with"),
        ({"WANDB_MODE": "online"}, "W&B is off (ValueError: no key; set WANDB_API_KEY"),
    ],
)
def test_a_tracker_that_is_set_up_wrongly_is_a_line(
    environ: dict[str, str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before its library is even imported."""
    with tracking(info(**environ), tmp_path) as run:
        assert run.runs() == []
    assert reason in capsys.readouterr().out


@pytest.mark.slow
def test_without_trackers_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """MLflow and W&B cost seconds; W&B's variables (such as WANDB_API_KEY) don't enable it."""
    code = """
        import os, sys
        from pathlib import Path
        from medloop.training.tracking.base import RunInfo
        from medloop.training.tracking.open import tracking
        with tracking(RunInfo("classification", {}, "c", "d", dict(os.environ)), Path(sys.argv[1])) as run:
            run.metrics({"score": 1.0}, 1)
        sys.exit(any(name in sys.modules for name in ("mlflow", "wandb", "boto3.session")))
        """
    env = {**os.environ, "WANDB_API_KEY": "x", "MLFLOW_TRACKING_URI": "", "WANDB_MODE": "disabled"}
    env["PYTHONPATH"] = os.getcwd()
    absent = "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None"
    done = subprocess.run(
        [sys.executable, "-c", f"{absent}\n{textwrap.dedent(code)}", str(tmp_path)], env=env, check=False
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_wandb_offline_leaves_a_run_and_touches_no_network(tmp_path: Path) -> None:
    """A real run's folder, with no link in it and no key; its server and every proxy would be one that we listen on."""
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent("""
        import os, sys
        from pathlib import Path
        import numpy as np
        from medloop.training.tracking.base import RunInfo
        from medloop.training.tracking.open import tracking
        model = Path(sys.argv[1]) / "model"
        model.mkdir()
        for name in ("model.safetensors", "model.json", "history.csv"):
            (model / name).write_text(name)
        info = RunInfo("classification", {"epochs": 2}, "c", "d", dict(os.environ))
        with tracking(info, Path(sys.argv[1])) as run:
            run.metrics({"val_auroc": 0.625}, 1)
            run.pictures(lambda: {"samples": np.zeros((4, 4, 3), np.uint8)}, 1)
            run.model(model)
            print(run.runs()[0].kind, run.runs()[0].experiment)
        """)
    )
    key = "feedface" * 5
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        env = {**os.environ, "WANDB_MODE": "offline", "WANDB_PROJECT": "night", "WANDB_API_KEY": key}
        env |= dict.fromkeys(("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
        env |= {"PYTHONPATH": os.getcwd(), "HOME": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path)],
            env=env,
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert done.stdout == "offline night\n"
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    content = next(folder.glob("run-*.wandb")).read_bytes()
    assert b"val_auroc" in content
    assert {path.name for path in (folder / "files").iterdir()} >= {"history.csv", "model.json", "media"}
    everything = [path for path in (tmp_path / "wandb").rglob("*")]
    assert not any(path.is_symlink() for path in everything)
    assert not any(key.encode() in path.read_bytes() for path in everything if path.is_file())
