"""Resuming: the newest checkpoint that is whole is found, checked, and read into the tensors of the run.

Torn checkpoints are named in the log and skipped. `checkpoint` writes them.
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
from medloop.training.checkpoint import MANIFEST, VERSION, Manifest, checkpoint_names, read_manifest, sha256
from medloop.training.file_lock import lock_file
from medloop.training.ranks import Ranks


def newest_checkpoint(folder: Path, run: str, ranks: Ranks) -> tuple[str, Manifest] | None:
    """The newest checkpoint that is whole, by name; the first process chooses.

    Args:
        folder: The run's, as `CheckpointWriter` has it.
        run: As `Manifest.run`.
        ranks: The processes.

    Raises:
        SettingError: It is of another run, or of another version of medloop.
    """
    chosen = _choose(folder, run) if ranks.first else ""
    problem, _, name = ranks.text_of_first(chosen).partition("\n")
    if problem:
        raise SettingError(problem)
    return (name, read_manifest(folder / name)) if name else None


def _choose(folder: Path, run: str) -> str:
    """A problem and a name, on two lines, either of them empty: what the first process tells the others."""
    for name in checkpoint_names(folder):
        try:
            manifest = read_manifest(folder / name)
            if problem := _refusal(manifest, run):
                return f"checkpoint {name}: {problem}; give another checkpoint folder, or empty this one\n"
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
            raise DataError(f"holds {path.name}, which {MANIFEST} doesn't name")
        if path.is_symlink() or path.stat().st_size != entry.size or sha256(path) != entry.sha256:
            raise DataError(f"torn, {path.name} isn't what was written")
    if expected or not manifest.files:
        raise DataError(f"torn, {next(iter(expected), 'every file')} is missing")
    if manifest.best_file is not None:
        best = checkpoint.parent / Path(manifest.best_file).name
        if not best.is_file() or sha256(best) != manifest.best_sha256:
            raise DataError(f"torn, {best.name} is missing or isn't what was written")


def load_checkpoint(checkpoint: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Read a checkpoint into tensors of the same names and shapes, whatever number of processes wrote it.

    Raises:
        DataError: It holds other tensors.
    """
    try:
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(checkpoint)), no_dist=ranks.size == 1)
    except (CheckpointException, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"checkpoint {checkpoint.name}: doesn't fit the network ({reason}); empty the folder") from None


@contextlib.contextmanager
def lock_checkpoint_dir(folder: Path, ranks: Ranks) -> Iterator[Path]:
    """Keep a folder for this run alone; a temporary one, where another run of this host is using it.

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
        held.enter_context(lock_file(folder / ".lock"))
    except TimeoutError:
        print(f"{folder} is in use by an equal run; this one leaves no checkpoint to resume from", flush=True)
        return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="medloop-checkpoints-")))
    except OSError as error:
        raise TargetError(f"{folder}: can't be written ({error.strerror}); give another checkpoint folder") from None
    return folder
