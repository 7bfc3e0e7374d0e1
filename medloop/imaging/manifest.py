"""The layout `manifest`: a split that copies nothing. Torch-free.

The split job writes, for each split, a manifest of SageMaker's (`[{"prefix": "s3://..."}, "name", ...]`) that picks its
files out of the raw data, and next to split.json `sources.json`, which maps cases to files. A job that reads a
channel through a manifest gets the files under their original names, so these two files contain names; the job
itself works on links with pseudonyms, and prints and writes no other name.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from medloop.documents.file_names import MANIFEST_FILE, SOURCES_FILE
from medloop.documents.sources import Sources
from medloop.documents.split import SPLITS, Split
from medloop.errors import DataError

TRAINING_SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")
"""The splits that a training job reads."""


def write_manifests(
    prefix: str, files: Callable[[Split], Iterable[tuple[str, str]]], outputs: Mapping[str, Path]
) -> None:
    """Write each split's manifest.json, and sources.json next to split.json, name by name: there may be a million.

    Args:
        prefix: S3 URI of the raw data.
        files: Lists a split's files as `Sources` has them: path below the split's folder, and below the raw data.
        outputs: Folder by output: `train`, `val`, `test`, `split`.

    Raises:
        DataError: A name can't be written in JSON, hence can't be a key in S3.
    """
    try:
        with (outputs["split"] / SOURCES_FILE).open("w", encoding="utf-8") as file:
            file.write(f'{{\n "version": {Sources.model_fields["version"].default},\n "files": {{')
            for split in SPLITS:
                file.write(f'{"," if split != SPLITS[0] else ""}\n  "{split}": {{')
                names: list[str] = []
                for path, source in files(split):
                    file.write(f"{',' if names else ''}\n   {_text(path)}: {_text(source)}")
                    names.append(source)
                file.write("\n  }" if names else "}")
                _write_manifest(outputs[split] / MANIFEST_FILE, prefix, names)
            file.write("\n }\n}")
    except UnicodeEncodeError:
        raise DataError("data: a file's name is not in UTF-8; rename it, or set split.layout=copy") from None


def _write_manifest(path: Path, prefix: str, names: list[str]) -> None:
    names.sort()
    with path.open("w", encoding="utf-8") as file:
        file.write(f'[\n {{\n  "prefix": {_text(prefix.rstrip("/") + "/")}\n }}')
        file.writelines(f",\n {_text(name)}" for name in names)
        file.write("\n]")


_text = json.JSONEncoder(ensure_ascii=False).encode


def channel_folder(channel: Path, split: Path, name: Split) -> Path:
    """The folder with a split's cases under their pseudonyms: the channel itself, or links to what a manifest gave.

    Args:
        channel: The channel's folder.
        split: The folder of split.json.
        name: The split.

    Raises:
        DataError: sources.json is malformed, or a file that it names isn't in the channel.
    """
    if not (split / SOURCES_FILE).exists():
        return channel
    sources = Sources.read(split)
    view = Path(tempfile.mkdtemp(prefix="medloop-"))
    atexit.register(shutil.rmtree, view, ignore_errors=True)
    for path, source in sources.files.get(name, {}).items():
        if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in (path, source)):
            raise DataError(f"{SOURCES_FILE}: names a path outside its folder; {Sources.FIX}")
        file = channel / source
        if not file.is_file():
            raise DataError(f"{name}/{path}: is not in the channel's manifest; {Sources.FIX}")
        (view / path).parent.mkdir(parents=True, exist_ok=True)
        (view / path).symlink_to(file.resolve())
    return view
