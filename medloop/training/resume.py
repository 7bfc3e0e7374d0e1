"""Checkpoints that a run goes on from: written beside training, whole or refused.

A checkpoint is a folder `step-<number>` with the tensors (safetensors, one file a process, written and read by
torch.distributed.checkpoint, which divides them anew for another number of processes) and `checkpoint.json`: where the
run was, and the size and SHA-256 of every file. It is written under another name and renamed when it is whole; the
service may yet copy or lose any part of it, so every file is checked before a run goes on from it. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from medloop.documents.model import Best
from medloop.errors import DataError, SettingError, TargetError
from medloop.training.checkpoint import BEST_FILES
from medloop.training.ranks import Ranks

VERSION: Final = 1
MANIFEST: Final = "checkpoint.json"
# A single process is what it takes it for.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
_NAME = re.compile(r"step-\d{9}")
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=True)


class Progress(_Record):
    """Where a run is, beside its tensors."""

    epoch: Annotated[int, Field(ge=1)] = 1
    """The epoch at hand."""
    step: Count = 0
    """Its steps that are done."""
    total_steps: Count = 0
    """Steps of the run that are done."""
    loss: float = 0.0
    """Sum of the epoch's losses so far, each times its samples."""
    num_samples: Count = 0
    seconds: float = 0.0
    """Spent on the run so far, by all of its processes' clocks alike."""
    history: list[dict[str, float]] = Field(default_factory=list)
    best: Best | None = None
    best_loss: float = 0.0
    """Validation loss of the best epoch."""
    num_stale: Count = 0
    batch_size: int = Field(default=1, ge=1)
    accumulation: int = Field(default=1, ge=1)
    scaler: dict[str, float] = Field(default_factory=dict)
    """State of fp16's loss scale."""


class _File(_Record):
    size: Count
    sha256: str


class Manifest(_Record):
    """The whole of checkpoint.json."""

    version: int
    run: str
    """A digest of what makes the run what it is: settings, data, network."""
    progress: Progress
    best_file: str | None = None
    best_sha256: str = ""
    files: dict[str, _File]


@dataclass
class Checkpoints:
    """The checkpoints of one run in one folder.

    Args:
        folder: Kept equal with S3 by the service. On several hosts each has its own.
        run: As `Manifest.run`.
        keep: Checkpoints that stay, the newest.
        ranks: The processes.
    """

    folder: Path
    run: str
    keep: int
    ranks: Ranks
    _writing: threading.Thread | None = field(default=None, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _best_in_writing: str | None = field(default=None, init=False)

    def save(self, progress: Progress, tensors: Mapping[str, Tensor], best: Path | None) -> None:
        """Take a copy of everything now, and write it beside training; waits for the last one to be written.

        Args:
            progress: Where the run is.
            tensors: By name; every process gives its part.
            best: The file of the best weights so far.

        Raises:
            TargetError: The last checkpoint couldn't be written.
        """
        self.wait()
        partial = self.folder / f".step-{progress.total_steps:09d}.partial"
        if self.ranks.local_rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
        self.ranks.barrier()
        copied, name = progress.model_copy(deep=True), best.name if best else None
        # The first process's host alone has that file; the manifest is the same on all, of which S3 keeps any one.
        digest = self.ranks.text_of_first(_sha256(best) if best and self.ranks.first else "")
        manifest = Manifest(
            version=VERSION, run=self.run, progress=copied, best_file=name, best_sha256=digest, files={}
        )
        alone = self.ranks.size == 1
        try:
            partial.mkdir(parents=True, exist_ok=True)
            future: Any = async_save(
                dict(tensors),
                storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True),
                process_group=None if alone else self.ranks.background,
                no_dist=alone,
            )
        except OSError as error:
            raise self._trouble(error) from None
        self._writing = threading.Thread(target=self._finish, args=(future, partial, manifest), daemon=True)
        self._best_in_writing = manifest.best_file
        self._writing.start()

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            TargetError: It couldn't be.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise self._trouble(error)

    def _trouble(self, error: BaseException) -> TargetError:
        return TargetError(f"{self.folder}: the checkpoint can't be written ({error}); free the disk, or give another")

    def _finish(self, future: Any, partial: Path, manifest: Manifest) -> None:
        try:
            future.result()
            files = self._digests(partial)
            for text in self.ranks.texts(json.dumps(files), self.ranks.background):
                manifest.files |= {name: _File(**entry) for name, entry in json.loads(text).items()}
            if self.ranks.local_rank == 0:
                self._complete(partial, manifest)
        except BaseException as error:
            self._error = error

    def _digests(self, partial: Path) -> dict[str, dict[str, Any]]:
        """Of the files that this process wrote: DCP names them by the process's number, from 1."""
        own = sorted(partial.glob(f"shard-{self.ranks.rank + 1:05d}-*.safetensors"))
        return {path.name: {"size": path.stat().st_size, "sha256": _sha256(path)} for path in own}

    def _complete(self, partial: Path, manifest: Manifest) -> None:
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        whole = self.folder / partial.name.removeprefix(".").removesuffix(".partial")
        shutil.rmtree(whole, ignore_errors=True)
        os.replace(partial, whole)
        self._forget_old()

    def _forget_old(self) -> None:
        """Delete what is more than is kept."""
        for old in self._names()[self.keep :]:
            shutil.rmtree(self.folder / old, ignore_errors=True)

    def _names(self) -> list[str]:
        """Newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def forget_best(self, current: Path) -> None:
        """Delete best weights of earlier epochs, but for those that a checkpoint names."""
        named = {current.name, self._best_in_writing}
        for name in self._names():
            with contextlib.suppress(DataError):
                named.add(self._read(name).best_file)
        for path in self.folder.glob(BEST_FILES):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def newest(self) -> tuple[str, Manifest] | None:
        """The newest checkpoint that is whole; torn ones are named in the log and passed over.

        Raises:
            SettingError: It is of another run, or of another version of medloop.
        """
        chosen = self._choose() if self.ranks.first else ""
        problem, _, name = self.ranks.text_of_first(chosen).partition("\n")
        if problem:
            raise SettingError(problem)
        return (name, self._read(name)) if name else None

    def _choose(self) -> str:
        """A problem and a name, on two lines, either of them empty: what the first process tells the others."""
        for name in self._names():
            try:
                manifest = self._read(name)
                if problem := self._refusal(manifest):
                    return f"checkpoint {name}: {problem}; give another checkpoint folder, or empty this one\n"
                self._check_files(name, manifest)
            except DataError as error:
                print(f"checkpoint {name}: {error}; passed over", flush=True)
                continue
            return f"\n{name}"
        return "\n"

    def _refusal(self, manifest: Manifest) -> str:
        if manifest.version != VERSION:
            return f"version {manifest.version}, this code writes {VERSION}"
        return "" if manifest.run == self.run else "of a run with other settings, data or network"

    def _read(self, name: str) -> Manifest:
        path = self.folder / name / MANIFEST
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(raw, dict) and isinstance(raw.get("version"), int) and raw["version"] != VERSION:
                return Manifest(version=raw["version"], run="", progress=Progress(), files={})
            return Manifest.model_validate(raw)
        except OSError as error:
            raise DataError(f"torn, {MANIFEST} can't be read ({error.strerror})") from None
        except (ValueError, ValidationError, RecursionError):
            raise DataError(f"torn, {MANIFEST} is damaged") from None

    def _check_files(self, name: str, manifest: Manifest) -> None:
        folder = self.folder / name
        expected = dict(manifest.files)
        for path in sorted(folder.glob("*.safetensors")):
            entry = expected.pop(path.name, None)
            if entry is None:
                raise DataError(f"holds {path.name}, which {MANIFEST} doesn't name")
            if path.is_symlink() or path.stat().st_size != entry.size or _sha256(path) != entry.sha256:
                raise DataError(f"torn, {path.name} isn't what was written")
        if expected or not manifest.files:
            raise DataError(f"torn, {next(iter(expected), 'every file')} is missing")
        if manifest.best_file is not None:
            best = self.folder / Path(manifest.best_file).name
            if not best.is_file() or _sha256(best) != manifest.best_sha256:
                raise DataError(f"torn, {best.name} is missing or isn't what was written")

    def load(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Read a checkpoint into tensors of the same names and shapes, whatever number of processes wrote it.

        Raises:
            DataError: It holds other tensors.
        """
        try:
            reader = HuggingFaceStorageReader(str(self.folder / name))
            load(dict(tensors), storage_reader=reader, no_dist=self.ranks.size == 1)
        except (CheckpointException, RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"checkpoint {name}: doesn't fit the network ({reason}); empty the folder") from None


@contextlib.contextmanager
def claimed(folder: Path, ranks: Ranks) -> Iterator[Path]:
    """The folder, for this run alone; or one of its own where another run of this machine is using it.

    Two equal runs at once have one checkpoint folder; each would delete what the other needs. On SageMaker every job
    has its own, and what two of them mix in S3 their digests tell apart.

    Args:
        folder: For checkpoints; made where it doesn't exist.
        ranks: The processes; the first decides.

    Raises:
        TargetError: It can't be written to.
    """
    with contextlib.ExitStack() as held:
        own = _lock(folder, held) if ranks.first else folder
        yield Path(ranks.text_of_first(str(own)))


def _lock(folder: Path, held: contextlib.ExitStack) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = held.enter_context((folder / ".lock").open("a"))
    except OSError as error:
        raise TargetError(f"{folder}: can't be written ({error.strerror}); give another checkpoint folder") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"{folder} is in use by an equal run; this one leaves no checkpoint to resume from", flush=True)
        return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="medloop-checkpoints-")))
    return folder


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
