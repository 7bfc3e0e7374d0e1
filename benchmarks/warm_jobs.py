"""Local jobs cold and warm: time until their packages are imported, and a tuning of tiny trials.

    python benchmarks/warm_jobs.py --trials 20

Jobs of one process that import what the container `segment` preloads. Wall time is from the start of their staging
until the imports are done; CPU time is that of the job's process until then (the two forks of a warm job, some 0.05 s,
are the server's and the keeper's). The first warm job, which starts the server, is a row of its own. Then one tuning of
`--trials` trials, one at a time, which import the same and print a score. Prints two tables in Markdown.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medloop.bundle import load_container
from medloop.local.jobs.warm import MINUTES_VARIABLE
from medloop.local.session import local_session
from medloop.local.state.home import ACCOUNT, BUCKET, REGION, ROLE_ARN, Home

PROGRAM = """
import os, time
{imports}
print(f"imported={{time.time()}}; cpu={{time.process_time()}}; score=1;", flush=True)
open(os.environ["ML_ROOT"] + "/model/weights", "w").close()
"""
METRICS = [{"Name": name, "Regex": f"{name}=([0-9.]+);"} for name in ("imported", "cpu", "score")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all jobs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=3, help="jobs of each kind; the median counts")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--preload", nargs="*", default=load_container("segment").preload)
    args = parser.parse_args(arguments)
    os.environ["MEDLOOP_TARGET"] = "local"
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "home", args.jobs, args.trials, args.preload)


def measure(home: Path, num_jobs: int, num_trials: int, preload: list[str]) -> None:
    """Measure in one home; its server ends with it."""
    boto = local_session(home)
    program = PROGRAM.format(imports=f"import {', '.join(preload)}" if preload else "")
    request = training_request(store_image(boto.client("s3"), program, preload))
    client = boto.client("sagemaker")
    kinds = {"cold": ("0", num_jobs), "warm, the first": ("10", 1), "warm": ("10", num_jobs)}
    print("| job | wall, s | CPU, s |\n|---|---|---|")
    for kind, (minutes, count) in kinds.items():
        os.environ[MINUTES_VARIABLE] = minutes
        times = [run_job(client, home, f"{kind.split(',')[0]}-{len(kind)}-{n}", request) for n in range(count)]
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"| {kind} | {wall:.2f} | {cpu:.3f} |", flush=True)
    print(f"\n| tuning of {num_trials} trials | wall, s |\n|---|---|")
    for kind, minutes in {"cold": "0", "warm": "10"}.items():
        os.environ[MINUTES_VARIABLE] = minutes
        print(f"| {kind} | {run_tuning(client, f'tuning-{kind}', request, num_trials):.1f} |", flush=True)


def store_image(s3: Any, program: str, preload: list[str]) -> str:
    """Store a bundle with this program, whose container.toml preloads the modules; returns its image."""
    files = {"main.py": program, "container.toml": f"preload = {preload!r}"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"containers/probe/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()[:40]
    s3.put_object(Bucket=BUCKET, Key=f"bundles/{digest}.tar.gz", Body=gzip.compress(packed.getvalue()))
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/medloop-probe:{digest}"


def training_request(image: str) -> dict[str, Any]:
    """Make the request of a training job, without its name."""
    return {
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File", "MetricDefinitions": METRICS},
        "RoleArn": ROLE_ARN,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    }


def run_job(client: Any, home: Path, name: str, request: dict[str, Any]) -> tuple[float, float]:
    """Run a training job; returns the seconds until its imports are done: wall time and CPU time of its process."""
    client.create_training_job(TrainingJobName=name, **request)
    while (job := client.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.05)
    require(job["TrainingJobStatus"] == "Completed", job.get("FailureReason", ""))
    log = Home.find(home).logs / "aws/sagemaker/TrainingJobs" / name / "algo-1"
    text = log.read_text(encoding="utf-8")
    require("not started warm" not in text, text)
    metrics = {metric["MetricName"]: float(metric["Value"]) for metric in job["FinalMetricDataList"]}
    start = job["SecondaryStatusTransitions"][1]["StartTime"].timestamp()  # of "Downloading"
    return metrics["imported"] - start, metrics["cpu"]


def require(condition: bool, reason: str) -> None:
    """Exit with a reason unless the condition is met."""
    if not condition:
        raise SystemExit(reason)


def run_tuning(client: Any, name: str, request: dict[str, Any], num_trials: int) -> float:
    """Run a tuning, one trial at a time; returns the seconds that it took."""
    config = {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": num_trials, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "rate", "MinValue": "0.1", "MaxValue": "1"}]},
    }
    begin = time.monotonic()
    client.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, HyperParameterTuningJobConfig=config, TrainingJobDefinition=request
    )
    describe = client.describe_hyper_parameter_tuning_job
    while (job := describe(HyperParameterTuningJobName=name))["HyperParameterTuningJobStatus"] == "InProgress":
        time.sleep(0.1)
    require(job["HyperParameterTuningJobStatus"] == "Completed", job.get("FailureReason", ""))
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
