"""The folders and the command of a job, as SageMaker's container contract has them, below `<home>/jobs/<job>`.

`ml` stands for `/opt/ml` (ML_ROOT in the job's environment), `code` is the unpacked bundle, `site` contains the module
that every Python process of the job runs first. Input folders are real; the files in them are links to stored objects
or to the user's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from medloop.checkout import checkout_folder
from medloop.container.paths import CACHE_VARIABLE, PREFIX, SCRIPT_CODE
from medloop.definition.job_rules import is_script_mode
from medloop.documents.archive import BUNDLE_LIMITS, ArchiveError, unpack
from medloop.local.errors import ServiceError, StagingError
from medloop.local.jobs import job_site, script_mode, tracking
from medloop.local.jobs.folders import Folder, Launch, Program
from medloop.local.jobs.inputs import link_inputs
from medloop.local.jobs.job import TRAINING, Job, num_running
from medloop.local.processes import inherited_environment
from medloop.local.state.backend import Backend
from medloop.local.state.home import BUCKET
from medloop.local.state.objects import split_uri
from medloop.local.state.runtime import PROCESS
from medloop.local.state.store import Document
from medloop.projects import package_folders

_IMAGE = re.compile(r".*/medloop-([a-z0-9-]+):([A-Za-z0-9_.-]+)")


def stage(job: Job, document: Document) -> Launch:
    """Make a job's folders; returns how it is started.

    Raises:
        StagingError: Its image, its inputs or its settings can't be used here.
    """
    backend, folder = job.backend, job.folder
    is_training = job.kind is TRAINING
    for name in ("ml", "code", "site"):
        backend.home.folder(*folder.root.relative_to(backend.home.root).parts, name)
    code = folder.root / "code"
    if is_training and is_script_mode(document):
        if backend.runtime != PROCESS:
            raise StagingError(
                "train.mode=script runs in AWS's own image, not in one of ours; set train.mode=container"
            )
        container, code = "", folder.local(SCRIPT_CODE)  # where the drivers unpack it
    else:
        container = unpack_image(backend, _image(job, document), code)
    staged = {
        path for paths in (_training if is_training else _processing)(backend, document, folder) for path in paths
    }
    owned = [*_checkpoints(backend, document, folder), *tracking.link_events(backend.objects, document, folder.ml)]
    caches = _cache(backend) if is_training else {}
    owned += map(Path, caches.values())
    write_site(backend, folder, staged, owned, code)
    env = caches | _environment(job, document)
    alias = None
    if not container:
        alias = script_mode.stage_drivers(folder, Path(document["_temporary"]))
        env |= script_mode.ENVIRONMENT
    is_launcher = is_training and _has_several_processes(document)
    launch = Launch(_command(job, document, container, alias), env, folder.root / "code", is_launcher)
    if backend.runtime == PROCESS:
        return launch
    read = [Path(path) for path in protected_folders(backend, staged)]
    return replace(launch, program=_program(job, document, container, caches, read, owned))


def _program(
    job: Job, document: Document, container: str, caches: dict[str, str], read: list[Path], owned: list[Path]
) -> Program:
    """The program of a container: the image's entry point or the request's, on the paths that the service has."""
    entry, arguments = _entry_and_arguments(job, document)
    variables = tracking.environment(job.backend.home, document.get("Environment") or {})
    is_launcher = job.kind is TRAINING and _has_several_processes(document)
    threads = {} if is_launcher else thread_variables(_num_threads(job))  # torchrun divides the cores itself
    return Program(
        job.backend.runtime,
        container,
        local_image(_image(job, document)),
        arguments,
        entry,
        threads | caches | variables | _names(job),
        read,
        [*owned, *tracking.written_folders(job.backend.home, variables)],
        tracking.connects(variables),
    )


def _has_several_processes(training: Document) -> bool:
    """True if the strategy distributes the training: its program becomes torchrun (`medloop.container.launch`)."""
    return str(training.get("HyperParameters", {}).get("strategy", "single")).strip('"') != "single"


def _image(job: Job, document: Document) -> str:
    if job.kind is TRAINING:
        return str(document.get("AlgorithmSpecification", {}).get("TrainingImage", ""))
    return str(document["AppSpecification"]["ImageUri"])


def unpack_image(backend: Backend, image: str, code: Path) -> str:
    """Unpack the bundle that an image's tag names; returns the container's name.

    Raises:
        StagingError: It is no image of ours, or its bundle is not there or damaged.
    """
    match = _match(image)
    try:
        data = backend.objects.read(f"s3://{BUCKET}/bundles/{match[2]}.tar.gz")
        unpack(data, code, BUNDLE_LIMITS)
    except ServiceError as error:
        raise StagingError(f"the image '{image}' has no bundle; upsert the pipeline again") from error
    except (ArchiveError, OSError) as error:
        raise StagingError(f"the bundle of the image '{image}' can't be unpacked: {error}") from error
    return match[1]


def _match(image: str) -> re.Match[str]:
    match = _IMAGE.fullmatch(image)
    if match is None:
        raise StagingError(f"the image '{image}' is not medloop-<container>:<digest>, all that the local backend runs")
    return match


def local_image(image: str) -> str:
    """The name under which an image is known to a container engine here: without the registry.

    Raises:
        StagingError: It is no image of ours.
    """
    match = _match(image)
    return f"medloop-{match[1]}:{match[2]}"


def _training(backend: Backend, job: Document, folder: Folder) -> Iterator[set[Path]]:
    for name in ("model", "output/data", "checkpoints", "input/config", "input/data"):
        (folder.ml / name).mkdir(parents=True, exist_ok=True)
    resources = job.get("ResourceConfig", {})
    config = folder.ml / "input" / "config"
    _write_json(config / "hyperparameters.json", job.get("HyperParameters", {}))
    _write_json(config / "resourceconfig.json", _resources(resources))
    channels = job.get("InputDataConfig") or []
    _write_json(config / "inputdataconfig.json", {channel["ChannelName"]: _channel(channel) for channel in channels})
    if job["OutputDataConfig"].get("CompressionType", "GZIP") != "GZIP":
        raise StagingError("OutputDataConfig.CompressionType must be GZIP on the local backend")
    for channel in channels:
        source = channel["DataSource"].get("S3DataSource")
        if source is None:
            raise StagingError(f"the channel {channel['ChannelName']} has no S3DataSource")
        yield link_inputs(backend, source, folder.ml / "input" / "data" / channel["ChannelName"])


def _channel(channel: Document) -> dict[str, str]:
    source = channel["DataSource"].get("S3DataSource", {})
    return {
        "TrainingInputMode": channel.get("InputMode", "File"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
    }


def _processing(backend: Backend, job: Document, folder: Folder) -> Iterator[set[Path]]:
    (folder.ml / "output").mkdir(parents=True, exist_ok=True)
    config = folder.ml / "config"
    config.mkdir(exist_ok=True)
    _write_json(config / "resourceconfig.json", _resources(job["ProcessingResources"]["ClusterConfig"]))
    shown = {key: value for key, value in job.items() if not key.startswith("_")}
    _write_json(config / "processingjobconfig.json", shown)
    for output in job.get("ProcessingOutputConfig", {}).get("Outputs") or []:
        folder.local(_local_path(output, "S3Output", output["OutputName"])).mkdir(parents=True, exist_ok=True)
    for source in job.get("ProcessingInputs") or []:
        target = folder.local(_local_path(source, "S3Input", source["InputName"]))
        yield link_inputs(backend, source["S3Input"], target)


def _local_path(channel: Document, member: str, name: str) -> str:
    path = channel.get(member, {}).get("LocalPath")
    if path is None:
        raise StagingError(f"{name} has no {member} with a LocalPath, which the local backend needs")
    return str(path)


def _resources(cluster: Document) -> Document:
    if cluster.get("InstanceCount", 1) != 1:
        count = cluster["InstanceCount"]
        raise StagingError(
            f"InstanceCount is {count}, but the local backend runs a job on one instance; set it to 1. Training with "
            f"strategy ddp or fsdp takes as many processes here: --set train.hyperparameters.processes={count}"
        )
    group = {"instance_group_name": "homogeneousCluster", "hosts": ["algo-1"]}
    instance = cluster.get("InstanceType", "local")
    return {
        "current_host": "algo-1",
        "current_instance_type": instance,
        "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"],
        "instance_groups": [{**group, "instance_type": instance}],
        "network_interface_name": "lo",
    }


def _checkpoints(backend: Backend, job: Document, folder: Folder) -> list[Path]:
    """Link the checkpoint folder to the store's own, which the job may write; returns that folder."""
    config = job.get("CheckpointConfig")
    if not config:
        return []
    stored = backend.objects.folder(*split_uri(config["S3Uri"]))
    link = folder.local(config.get("LocalPath", f"{PREFIX}/checkpoints"))
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir():
        link.rmdir()
    link.symlink_to(stored, target_is_directory=True)
    return [stored]


def _cache(backend: Backend) -> dict[str, str]:
    """The variable of the prepared data's folder, one for all training jobs: trials and reruns prepare nothing."""
    folder = backend.home.folder("cache")
    folder.chmod(0o700)
    return {CACHE_VARIABLE: str(folder)}


def write_site(
    backend: Backend, folder: Folder, staged: Collection[Path], owned: list[Path], code: Path | None = None
) -> None:
    """Stage the start-up module, and the list of folders that it protects: the store, and those of linked files.

    Args:
        backend: The backend.
        folder: The staged folder.
        staged: The folders of the linked inputs' files.
        owned: Folders outside the staged one that the process may write.
        code: Where this project's packages come from; by default, the unpacked bundle.
    """
    site = folder.root / "site"
    shutil.copyfile(job_site.__file__, site / "sitecustomize.py")
    settings = {
        "code": str(code or folder.root / "code"),
        "checkout": checkout_folder(),
        "packages": [*package_folders()],
        "protected": protected_folders(backend, staged),
        "allowed": [os.path.realpath(path) for path in [folder.root, *owned]],
    }
    _write_json(site / "job_site.json", settings)


def protected_folders(backend: Backend, staged: Collection[Path]) -> list[str]:
    """The store, the user's folders registered in it, and where else their links lead."""
    store = os.path.realpath(backend.home.buckets)
    links = {path for folder in staged for path in (folder, *folder.parents)}
    roots = {store, *(os.path.realpath(path) for path in links if path.is_symlink())}
    for folder in sorted(os.path.realpath(folder) for folder in staged):
        if not any(folder == root or folder.startswith(root + os.sep) for root in roots):
            roots.add(folder)
    return sorted(roots)


def _command(job: Job, document: Document, container: str, alias: Path | None) -> list[str]:
    entry, arguments = _entry_and_arguments(job, document)
    entry = entry or [sys.executable, f"containers/{container}/main.py"]
    program = sys.executable if Path(entry[0]).name in ("python", "python3") else entry[0]
    return [program, *(job.folder.rewrite(str(word), alias) for word in [*entry[1:], *arguments])]


def _entry_and_arguments(job: Job, document: Document) -> tuple[list[str], list[str]]:
    """The entry point that a request sets, empty for the image's, and its arguments."""
    is_training = job.kind is TRAINING
    spec = document.get("AlgorithmSpecification", {}) if is_training else document["AppSpecification"]
    return spec.get("ContainerEntrypoint") or [], spec.get("ContainerArguments") or (["train"] if is_training else [])


def _environment(job: Job, document: Document) -> dict[str, str]:
    """A job's environment, its own name and ARN in it."""
    variables = tracking.environment(job.backend.home, document.get("Environment") or {})
    return environment(job.folder, document["_temporary"], variables, _num_threads(job)) | _names(job)


def _num_threads(job: Job) -> int:
    """The threads that a job's process may use: it shares the cores with the other jobs."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, num_running(job.backend)))


def _names(job: Job) -> dict[str, str]:
    """The variables by which a job knows its own name and ARN."""
    verb = job.kind.type.time_prefix.upper()
    return {f"{verb}_JOB_NAME": job.name, f"{verb}_JOB_ARN": job.arn}


def thread_variables(threads: int) -> dict[str, str]:
    """The variables that limit the threads of a process."""
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}


def environment(folder: Folder, temporary: str, variables: dict[str, str], threads: int) -> dict[str, str]:
    """The request's environment over a small base; nothing else of ours, above all no credentials.

    Args:
        folder: The staged folder.
        temporary: The process's own TMPDIR, made here. Short: sockets' paths have 107 bytes at most.
        variables: The variables that the request sets.
        threads: Threads that one process may use.
    """
    base = inherited_environment("HOME", "CUDA_VISIBLE_DEVICES")
    Path(temporary).mkdir(mode=0o700)
    base |= thread_variables(threads)
    rewritten = {name: folder.rewrite(value) for name, value in variables.items()}
    paths = [str(folder.root / "site"), str(folder.root / "code"), rewritten.pop("PYTHONPATH", "")]
    fixed = {
        "PATH": os.pathsep.join(filter(None, [str(Path(sys.executable).parent), base.get("PATH", "")])),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "ML_ROOT": str(folder.ml),
        "TMPDIR": temporary,
    }
    return {**base, **rewritten, **fixed}


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
