"""Resume: find the newest complete checkpoint, verify its files, and load it into the tensors of the run.

Torn checkpoints are logged and skipped. `checkpoint` writes checkpoints.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load

from medloop.errors import DataError, SettingError, TargetError
from medloop.imaging.cache import file_digest
from medloop.training.checkpoint import MANIFEST, VERSION, Manifest, checkpoint_names, read_manifest
from medloop.training.file_lock import lock_file
from medloop.training.ranks import Ranks


def newest_checkpoint(folder: Path, run: str, ranks: Ranks) -> tuple[str, Manifest] | None:
    """Find the newest complete checkpoint of a run (`Manifest.run`), its name and manifest; the first process chooses.

    Raises:
        SettingError: The checkpoint is of another run, or of another version of medloop.
    """
    chosen = _choose(folder, run) if ranks.first else ""
    problem, _, name = ranks.text_of_first(chosen).partition("\n")
    if problem:
        raise SettingError(problem)
    return (name, read_manifest(folder / name)) if name else None


def _choose(folder: Path, run: str) -> str:
    """Choose a checkpoint: returns a problem and a name on two lines, one of them empty, for all processes."""
    for name in checkpoint_names(folder):
        try:
            manifest = read_manifest(folder / name)
            if problem := _refusal(manifest, run):
                return f"checkpoint {name}: {problem}; set another checkpoint folder, or empty this one\n"
            _check_files(folder / name, manifest)
        except DataError as error:
            print(f"checkpoint {name}: {error}; skipped", flush=True)
            continue
        return f"\n{name}"
    return "\n"


def _refusal(manifest: Manifest, run: str) -> str:
    if manifest.version != VERSION:
        return f"version {manifest.version}, this code writes {VERSION}"
    return "" if manifest.run == run else "of a run with other settings, data or network"


def _check_files(checkpoint: Path, manifest: Manifest) -> None:
    expected = dict(manifest.files)
    for path in sorted(checkpoint.glob("*.safetensors")):
        entry = expected.pop(path.name, None)
        if entry is None:
            raise DataError(f"contains {path.name}, which is not in {MANIFEST}")
        if path.is_symlink() or path.stat().st_size != entry.size or file_digest(path) != entry.sha256:
            raise DataError(f"torn, {path.name} doesn't have the digest in the manifest")
    if expected or not manifest.files:
        raise DataError(f"torn, {next(iter(expected), 'every file')} is missing")
    if manifest.best_file is not None:
        best = checkpoint.parent / Path(manifest.best_file).name
        if not best.is_file() or file_digest(best) != manifest.best_sha256:
            raise DataError(f"torn, {best.name} is missing or doesn't have the digest in the manifest")


def load_checkpoint(checkpoint: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Load a checkpoint into tensors of the same names and shapes, regardless of the number of processes that wrote it.

    Raises:
        DataError: The checkpoint contains other tensors.
    """
    try:
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(checkpoint)), no_dist=ranks.size == 1)
    except (CheckpointException, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"checkpoint {checkpoint.name}: doesn't fit the network ({reason}); empty the folder") from None


@contextlib.contextmanager
def lock_checkpoint_dir(folder: Path, ranks: Ranks) -> Iterator[Path]:
    """Lock a folder for this run; yields a temporary folder if another run of this host uses it.

    Two equal runs at the same time have one checkpoint folder; each would delete files of the other. On SageMaker every
    job has its own; mixed files of two jobs in S3 are detected by their digests.

    Args:
        folder: Folder of checkpoints; it is created.
        ranks: The processes; the first one decides.

    Raises:
        TargetError: The folder can't be written to.
    """
    with contextlib.ExitStack() as stack:
        locked = _lock(folder, stack) if ranks.first else folder
        yield Path(ranks.text_of_first(str(locked)))


def _lock(folder: Path, stack: contextlib.ExitStack) -> Path:
    try:
        stack.enter_context(lock_file(folder / ".lock"))
    except TimeoutError:
        print(f"{folder} is in use by an equal run; this run saves no checkpoint to resume from", flush=True)
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medloop-checkpoints-")))
    except OSError as error:
        raise TargetError(f"{folder}: can't be written ({error.strerror}); set another checkpoint folder") from None
    return folder
