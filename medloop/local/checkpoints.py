"""A training job's checkpoint folder: the stored one itself, which one job at a time may write.

SageMaker gives each job a copy and keeps it equal with S3. Here the folder is the stored one; of two jobs of one place
that run at once, the later one's checkpoints are its own and end with it, or each would tear the other's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medloop.container.paths import CHECKPOINTS
from medloop.local import jobs, processes
from medloop.local.backend import Backend
from medloop.local.folders import Folder
from medloop.local.jobs import ENDED, TRAINING
from medloop.local.objects import split_uri
from medloop.local.store import Document, Table

_CLAIM = "_checkpoints"
"""The member of a job's record that names the place which it writes."""


def link_checkpoints(backend: Backend, job: Document, folder: Folder) -> tuple[list[Path], list[str]]:
    """Link a job's checkpoint folder to the stored one.

    Args:
        backend: The backend.
        job: A recorded training job in progress.
        folder: Its staged folder.

    Returns:
        Folders of the store that the job may write, and lines for its log.
    """
    config = job.get("CheckpointConfig")
    if not config:
        return [], []
    link = folder.local(config.get("LocalPath", CHECKPOINTS))
    link.parent.mkdir(parents=True, exist_ok=True)
    if holder := _claim(backend, job["TrainingJobName"], config["S3Uri"]):
        link.mkdir(exist_ok=True)
        said = f"{config['S3Uri']} is where {holder} keeps its checkpoints now; those of this job end with it"
        return [], [said]
    stored = backend.objects.folder(*split_uri(config["S3Uri"]))
    if link.is_dir():
        link.rmdir()
    link.symlink_to(stored, target_is_directory=True)
    return [stored], []


def _claim(backend: Backend, name: str, uri: str) -> str | None:
    """Record that a job writes a place; the name of the running job that does so already, if there is one."""
    place = uri.rstrip("/")

    def holds(job: dict[str, Any]) -> bool:
        claimed = job.get(_CLAIM) == place and job[TRAINING.status] not in ENDED
        return claimed and job["TrainingJobName"] != name

    with backend.store.read() as read:
        left = [job for job in read.select(Table.TRAINING_JOBS) if holds(job)]
    for job in left:
        jobs.reap(backend, TRAINING, job)  # one whose supervisor is gone may still have processes that write
    with backend.store.write() as write:
        for job in write.select(Table.TRAINING_JOBS):
            if holds(job) and processes.alive(job["_supervisor"]):
                return str(job["TrainingJobName"])
        jobs.change_within(write, TRAINING, name, **{_CLAIM: place})
    return None
