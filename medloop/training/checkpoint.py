"""Checkpoints of a run, written in the background, atomically. `resume` reads them.

A checkpoint is a folder `step-<number>` with the tensors (safetensors, one file a process, written and read by
torch.distributed.checkpoint, which redistributes them over another number of processes) and `checkpoint.json`: the
progress of the run, and the size and SHA-256 of every file. It is written under another name and renamed when it is
complete; the service may copy only a part of it, so every file is verified before a run resumes. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import async_save

from medloop.documents.json_text import read_json
from medloop.documents.model import Best
from medloop.errors import DataError, TargetError
from medloop.imaging.cache import file_digest
from medloop.training.ranks import Ranks
from medloop.training.weights import BEST_FILES

VERSION: Final = 1
MANIFEST: Final = "checkpoint.json"
# The warning applies to a single process only, and is correct there.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
_NAME = re.compile(r"step-\d{9}")
Count = Annotated[int, Field(ge=0)]


def _with_whole_epoch(row: dict[str, float]) -> dict[str, float]:
    try:
        return row | {"epoch": int(row["epoch"])}
    except (KeyError, OverflowError):
        raise ValueError("a row's epoch is missing or infinite") from None


EpochRow = Annotated[dict[str, float], AfterValidator(_with_whole_epoch)]
"""An epoch's numbers by name; `epoch` is an integer, in JSON a number like the others."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=True)


class RunProgress(_Record):
    """The state of a run without its tensors."""

    epoch: Annotated[int, Field(ge=1)] = 1
    """The current epoch."""
    step: Count = 0
    """Completed steps of the epoch."""
    total_steps: Count = 0
    """Completed steps of the run."""
    loss: float = 0.0
    """Sum of the epoch's losses so far, each multiplied by its number of samples."""
    num_samples: Count = 0
    seconds: float = 0.0
    """Duration of the run so far."""
    history: list[EpochRow] = Field(default_factory=list)
    best: Best | None = None
    best_loss: float = 0.0
    """Validation loss of the best epoch."""
    num_stale: Count = 0
    batch_size: int = Field(default=1, ge=1)
    accumulation: int = Field(default=1, ge=1)
    scaler: dict[str, float] = Field(default_factory=dict)
    """State of fp16's loss scale."""

    def record_score(self, score: Best, loss: float) -> bool:
        """Count a validation. True if it is the best so far.

        Ties are frequent in small validation splits (AUROC 1): the lower loss decides, and patience is not reset.
        """
        best = self.best
        self.num_stale = 0 if best is None or score.value > best.value else self.num_stale + 1
        if best is not None and not (score.value, -loss) > (best.value, -self.best_loss):
            return False
        self.best, self.best_loss = score, loss
        return True


class FileEntry(_Record):
    """Size and digest of a file of tensors."""

    size: Count
    sha256: str


_Files = TypeAdapter(dict[str, FileEntry])


class Manifest(_Record):
    """The content of checkpoint.json."""

    version: int
    run: str
    """Digest of the run's settings, data and network."""
    progress: RunProgress
    best_file: str | None = None
    best_sha256: str = ""
    files: dict[str, FileEntry]


@dataclass
class CheckpointWriter:
    """Writes the checkpoints of one run to one folder.

    Args:
        folder: Synchronised with S3 by the service. Each host has its own.
        run: `Manifest.run`.
        keep: Number of newest checkpoints that are not deleted.
        ranks: The processes.
    """

    folder: Path
    run: str
    keep: int
    ranks: Ranks
    _writing: threading.Thread | None = field(default=None, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _best_in_writing: str | None = field(default=None, init=False)

    def save(self, progress: RunProgress, tensors: Mapping[str, Tensor], best: Path | None) -> None:
        """Copy everything now, and write it in the background; waits until the last checkpoint is written.

        Every process has its part of `tensors`; `best` is the file of the best weights so far.

        Raises:
            TargetError: The last checkpoint couldn't be written.
        """
        self.wait()
        partial = self.folder / f".step-{progress.total_steps:09d}.partial"
        if self.ranks.local_rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
        self.ranks.barrier()
        copied, name = progress.model_copy(deep=True), best.name if best else None
        # Only the first process's host has that file. Manifests must be equal: all hosts write to one S3 prefix.
        digest = self.ranks.text_of_first(file_digest(best) if best and self.ranks.first else "")
        manifest = Manifest(
            version=VERSION, run=self.run, progress=copied, best_file=name, best_sha256=digest, files={}
        )
        alone = self.ranks.size == 1
        try:
            partial.mkdir(parents=True, exist_ok=True)
            future = async_save(
                dict(tensors),
                storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True),
                process_group=None if alone else self.ranks.background,
                no_dist=alone,
            )
        except OSError as error:
            raise self._write_error(error) from None
        assert isinstance(future, Future)  # noqa: S101 (staging is not asynchronous)
        self._writing = threading.Thread(target=self._finish, args=(future, partial, manifest), daemon=True)
        self._best_in_writing = manifest.best_file
        self._writing.start()

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            TargetError: It couldn't be written.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise self._write_error(error)

    def _write_error(self, error: BaseException) -> TargetError:
        problem = f"the checkpoint can't be written ({error})"
        return TargetError(f"{self.folder}: {problem}; free the disk, or set another folder")

    def _finish(self, future: Future[object], partial: Path, manifest: Manifest) -> None:
        try:
            future.result()
            entries = _Files.dump_json(self._entries(partial)).decode()
            for text in self.ranks.texts(entries, self.ranks.background):
                manifest.files |= _Files.validate_json(text)
            if self.ranks.local_rank == 0:
                self._complete(partial, manifest)
        except BaseException as error:
            self._error = error

    def _entries(self, partial: Path) -> dict[str, FileEntry]:
        """Describe the files of this process: DCP names them by the process's number, from 1."""
        files = sorted(partial.glob(f"shard-{self.ranks.rank + 1:05d}-*.safetensors"))
        return {path.name: FileEntry(size=path.stat().st_size, sha256=file_digest(path)) for path in files}

    def _complete(self, partial: Path, manifest: Manifest) -> None:
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        complete = self.folder / partial.name.removeprefix(".").removesuffix(".partial")
        shutil.rmtree(complete, ignore_errors=True)
        os.replace(partial, complete)
        for old in checkpoint_names(self.folder)[self.keep :]:
            shutil.rmtree(self.folder / old, ignore_errors=True)

    def delete_old_best(self, current: Path) -> None:
        """Delete best weights of earlier epochs unless a checkpoint names them."""
        named = {current.name, self._best_in_writing}
        for name in checkpoint_names(self.folder):
            with contextlib.suppress(DataError):
                named.add(read_manifest(self.folder / name).best_file)
        for path in self.folder.glob(BEST_FILES):
            if path.name not in named:
                path.unlink(missing_ok=True)


def checkpoint_names(folder: Path) -> list[str]:
    """List the checkpoints of a folder, complete or torn, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def read_manifest(checkpoint: Path) -> Manifest:
    """Read the checkpoint.json of a checkpoint; only the version of one of another version.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        raw = read_json(checkpoint / MANIFEST)
        if isinstance(raw, dict) and isinstance(raw.get("version"), int) and raw["version"] != VERSION:
            return Manifest(version=raw["version"], run="", progress=RunProgress(), files={})
        return Manifest.model_validate(raw)
    except OSError as error:
        raise DataError(f"torn, {MANIFEST} can't be read ({error.strerror})") from None
    except (ValueError, ValidationError):
        raise DataError(f"torn, {MANIFEST} is damaged") from None
