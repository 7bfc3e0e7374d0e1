"""The job's side of SageMaker's processing contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.container.arguments import read_pairs
from medloop.container.paths import message_file, ml_root
from medloop.container.run import leave_reason
from medloop.errors import DataError, TargetError

_INPUT, _OUTPUT = "input-", "output-"


@dataclass(frozen=True)
class ProcessingJob:
    """What a processing job was given, and where it writes."""

    arguments: dict[str, str]
    """Everything but the folders, as text by name (hyphens kept); `parse_arguments` checks them."""
    inputs: dict[str, Path]
    """Folders given by hand with `--input-NAME DIR`."""
    outputs: dict[str, Path]
    """Folders given by hand with `--output-NAME DIR`."""

    def input(self, name: str) -> Path:
        """The folder of an input.

        Raises:
            DataError: The job was started without this input.
        """
        folder = self.inputs.get(name) or ml_root() / "processing" / "input" / name
        if not folder.is_dir():
            raise DataError(f"input {name} is missing; by hand, give --input-{name} DIR")
        return folder

    def has_input(self, name: str) -> bool:
        """Whether an optional input was given."""
        return (self.inputs.get(name) or ml_root() / "processing" / "input" / name).is_dir()

    def output(self, name: str) -> Path:
        """The folder of an output, made where it doesn't exist.

        Raises:
            TargetError: It can't be made.
        """
        folder = self.outputs.get(name) or ml_root() / "processing" / "output" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(f"output {name}: can't be written ({error.strerror}); give another folder") from None
        return folder

    def say(self, message: str) -> None:
        """Leave the job's last word, which the service shows as ExitMessage (1,024 characters at most)."""
        print(message, flush=True)
        leave_reason(message_file(), message)

    @classmethod
    def read(cls, argv: Sequence[str]) -> ProcessingJob:
        """Read the contract.

        Args:
            argv: `--name value` pairs; `--input-NAME DIR` and `--output-NAME DIR` stand for the contract's folders.

        Raises:
            SettingError: An argument can't be understood.
        """
        pairs = read_pairs(argv)
        inputs = {k.removeprefix(_INPUT): Path(v) for k, v in pairs.items() if k.startswith(_INPUT)}
        outputs = {k.removeprefix(_OUTPUT): Path(v) for k, v in pairs.items() if k.startswith(_OUTPUT)}
        rest = {k: v for k, v in pairs.items() if not k.startswith((_INPUT, _OUTPUT))}
        return cls(rest, inputs, outputs)
