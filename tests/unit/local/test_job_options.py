"""Options of a job in addition to its code: manifests, checkpoints, script mode, Spot training and warm pools."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from medloop.container.paths import PREFIX
from medloop.local.errors import StagingError
from medloop.local.jobs.inputs import link_inputs
from medloop.local.state.backend import Backend
from medloop.local.state.home import BUCKET
from tests.unit.local.conftest import Local
from tests.unit.local.steps import processing, training

MANIFEST = f"s3://{BUCKET}/m/manifest.json"


def put(local: Local, key: str, body: Any) -> None:
    """Store an object; what is no bytes is stored as JSON."""
    local.s3.put_object(Bucket=BUCKET, Key=key, Body=body if isinstance(body, bytes) else json.dumps(body).encode())


def trained(local: Local, step: dict[str, Any]) -> dict[str, Any]:
    """Run one training step; its job's description."""
    _, steps = local.run([step])
    arn = steps[step["Name"]]["Metadata"]["TrainingJob"]["Arn"]
    return dict(local.sagemaker.describe_training_job(TrainingJobName=arn.rpartition("/")[2]))


@pytest.mark.slow
def test_a_manifest_gives_the_files_that_it_lists(local: Local) -> None:
    """In folders as below the prefix, and nothing else of the prefix."""
    for name in ("a é/1.txt", "a é/2.txt", "b.txt"):
        put(local, f"raw/{name}", name.encode())
    put(local, "m/manifest.json", [{"prefix": f"s3://{BUCKET}/raw/"}, "a é/1.txt", "b.txt"])
    code = """
import os
from pathlib import Path
root = Path(os.environ["ML_ROOT"]) / "processing"
folder = root / "input/data"
names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
(root / "output/out/names").write_text("|".join(names))
"""
    step = processing("List", local.image(code), inputs={"data": MANIFEST}, outputs={"out": f"s3://{BUCKET}/out"})
    step["Arguments"]["ProcessingInputs"][0]["S3Input"]["S3DataType"] = "ManifestFile"
    execution, _ = local.run([step])
    assert execution["PipelineExecutionStatus"] == "Succeeded", execution.get("FailureReason")
    assert local.read(f"s3://{BUCKET}/out/names").decode() == "a é/1.txt|b.txt"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "can't be read"),
        (b"", "can't be read"),
        (b"\xff", "can't be read"),
        (b"[", "can't be read"),
        ({}, "must be"),
        ([], "must be"),
        (["x"], "must be"),
        ([{"prefix": "/etc/"}, "hostname"], "must be"),
        ([{"prefix": f"s3://{BUCKET}/raw/"}, 3], "must be"),
        ([{"prefix": f"s3://{BUCKET}/raw/"}], "No S3 objects found"),
        ([{"prefix": f"s3://{BUCKET}/raw/"}, "../Jane Doe"], "entry 1 .* leaves its folder"),
        ([{"prefix": f"s3://{BUCKET}/raw/"}, "/Jane Doe"], "entry 1 .* leaves its folder"),
        ([{"prefix": f"s3://{BUCKET}/raw/"}, "a", "Jane Doe"], "no object is at entry 2"),
        ([{"prefix": f"s3://{BUCKET}/raw/"}, "a", "a"], "have the same path$"),
    ],
)
def test_a_broken_manifest_is_refused_without_naming_anyone(local: Local, body: Any, reason: str) -> None:
    """Absent, empty, of another form, leading out, or listing what isn't there: entries are reported by number."""
    put(local, "raw/a", b"1")
    if body is not None:
        put(local, "m/manifest.json", body)
    backend = Backend.open(local.home)
    source = {"S3Uri": MANIFEST, "S3DataType": "ManifestFile"}
    with pytest.raises(StagingError, match=reason) as caught:
        link_inputs(backend, source, local.home / "jobs" / "x")
    assert "Jane" not in str(caught.value)


CHECKPOINTING = """
import os, sys
from pathlib import Path
folder = Path(os.environ["ML_ROOT"]) / "checkpoints"
before = sorted(p.name for p in folder.iterdir())
(folder / f"epoch{len(before)}").write_text("weights")
(Path(os.environ["ML_ROOT"]) / "output/failure").write_text(f"found {before}")
sys.exit(1)
"""


@pytest.mark.slow
def test_checkpoints_outlive_their_job_and_are_found_by_the_next(local: Local) -> None:
    """The folder is the stored one: a job that fails has lost nothing; another URI has checkpoints of its own."""

    def failure(prefix: str) -> str:
        where = {"S3Uri": f"s3://{BUCKET}/{prefix}", "LocalPath": f"{PREFIX}/checkpoints"}
        step = training("Train", local.image(CHECKPOINTING), CheckpointConfig=where)
        return str(trained(local, step)["FailureReason"])

    assert "found []" in failure("checkpoints/a")
    assert local.read(f"s3://{BUCKET}/checkpoints/a/epoch0") == b"weights"
    assert "found ['epoch0']" in failure("checkpoints/a")
    assert "found []" in failure("checkpoints/b")


@pytest.mark.slow
def test_spot_and_warm_pool_are_recorded(local: Local) -> None:
    """What Describe says of them: time, what would be billed, and a pool that nothing is left of."""
    network = {
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
    }
    pool = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10, "KeepAlivePeriodInSeconds": 60}
    job = trained(local, training("Train", local.image("print()"), ResourceConfig=pool, **network))
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] >= 1
    assert job["WarmPoolStatus"]["Status"] == "Terminated"
    assert {name: job[name] for name in network} == network


DRIVER = f"""#!/bin/bash
set -e
cd {PREFIX}/input/data/code
python3 main.py "$PIP_NO_INDEX" '{PREFIX}/model' >> {PREFIX}/output/data/log
"""
SCRIPT = """
import sys, pathlib, medloop
pathlib.Path(sys.argv[2], "seen").write_text("|".join([sys.argv[1], medloop.HERE]))
"""


@pytest.mark.slow
def test_script_mode_runs_the_drivers_that_it_is_given(local: Local) -> None:
    """In a home whose name its shell would trip over: paths rewritten, pip offline, code from the channel alone."""
    put(local, "code/main.py", SCRIPT.encode())
    put(local, "code/medloop/__init__.py", b'HERE = "the channel"')
    put(local, "drivers/sm_train.sh", DRIVER.encode())
    put(local, "drivers/logo.png", b"\x89PNG\xff")
    script = f"{PREFIX}/input/data/sm_drivers/sm_train.sh"
    channels = {"code": f"s3://{BUCKET}/code", "sm_drivers": f"s3://{BUCKET}/drivers"}
    image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch:2.14-cu133-amzn2023-sagemaker"
    step = training("Train", image, channels)
    step["Arguments"]["AlgorithmSpecification"] |= {
        "ContainerEntrypoint": ["/bin/bash"],
        "ContainerArguments": ["-c", f"chmod +x {script} && {script}"],
    }
    step["Arguments"]["Environment"] = {"PYTHONPATH": f"{PREFIX}/input/data/code"}
    job = trained(local, step)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert model_file(local, job, "seen") == b"1|the channel"
    assert local.read(f"s3://{BUCKET}/drivers/sm_train.sh") == DRIVER.encode()


def model_file(local: Local, job: dict[str, Any], name: str) -> bytes:
    """A file of a job's model.tar.gz."""
    with tarfile.open(fileobj=io.BytesIO(local.read(job["ModelArtifacts"]["S3ModelArtifacts"]))) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()
