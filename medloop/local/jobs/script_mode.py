"""Script mode: a training job run by the SDK's own drivers, which arrive as the channel `sm_drivers`.

On AWS they run in SageMaker's PyTorch image, locally in this environment's Python. They spell `/opt/ml` out, so the
staged copy is rewritten. Requirements are those of this environment: pip finds them installed, and is kept offline.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from medloop.local.jobs.folders import Folder

ENVIRONMENT = {
    "PIP_NO_INDEX": "1",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_INPUT": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_QUIET": "1",
}
"""Nothing is fetched: a package missing from the environment fails the job, and pip names it."""
_DRIVERS = "input/data/sm_drivers"


def stage_drivers(folder: Folder, temporary: Path) -> Path:
    """Replace the links of the drivers' channel by copies that name the staged folder instead of /opt/ml.

    Args:
        folder: The staged folder.
        temporary: The job's own, outside it: its path is plain.

    Returns:
        The name that the copies use: a link to the staged folder, since the drivers' shell quotes no blanks.
    """
    alias = temporary / "ml"
    alias.symlink_to(folder.ml, target_is_directory=True)
    for path in list((folder.ml / _DRIVERS).rglob("*")):
        if not path.is_file():
            continue
        source = path.resolve()
        path.unlink()
        try:
            path.write_text(folder.rewrite(source.read_text(encoding="utf-8"), alias), encoding="utf-8")
        except UnicodeDecodeError:
            shutil.copyfile(source, path)
    return alias
