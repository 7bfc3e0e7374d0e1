"""The job's side of SageMaker's processing contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medloop.container.arguments import read_pairs, with_prefix
from medloop.container.paths import message_file, ml_root
from medloop.container.run import write_reason
from medloop.errors import DataError, TargetError

_INPUT, _OUTPUT = "input-", "output-"


@dataclass(frozen=True)
class ProcessingJob:
    """Arguments, inputs and outputs of a processing job."""

    arguments: dict[str, str]
    """Arguments other than folders, as text by name (with hyphens); `parse_arguments` checks them."""
    inputs: dict[str, Path]
    """Folders of `--input-NAME DIR`, for runs by hand."""
    outputs: dict[str, Path]
    """Folders of `--output-NAME DIR`, for runs by hand."""

    def input(self, name: str) -> Path:
        """Return the folder of an input.

        Raises:
            DataError: The job has no such input.
        """
        folder = self.optional_input(name)
        if folder is None:
            raise DataError(f"input {name} is missing; set --input-{name} DIR")
        return folder

    def optional_input(self, name: str) -> Path | None:
        """Return the folder of an input; None if the job doesn't have it."""
        folder = self.inputs.get(name) or ml_root() / "processing" / "input" / name
        return folder if folder.is_dir() else None

    def output(self, name: str) -> Path:
        """Return the folder of an output, and create it.

        Raises:
            TargetError: The folder can't be created.
        """
        folder = self.outputs.get(name) or ml_root() / "processing" / "output" / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(f"output {name}: can't be written ({error.strerror}); set another folder") from None
        return folder

    def set_exit_message(self, message: str) -> None:
        """Print and write the exit message, which the service shows (ExitMessage, 1,024 characters at most)."""
        print(message, flush=True)
        write_reason(message_file(), message)

    @classmethod
    def read(cls, argv: Sequence[str]) -> ProcessingJob:
        """Read the contract.

        Args:
            argv: `--name value` pairs; `--input-NAME DIR` and `--output-NAME DIR` replace the contract's folders.

        Raises:
            SettingError: An argument is malformed.
        """
        pairs = read_pairs(argv)
        inputs, outputs = (
            {name: Path(folder) for name, folder in with_prefix(pairs, prefix).items()} for prefix in (_INPUT, _OUTPUT)
        )
        arguments = {name: value for name, value in pairs.items() if not name.startswith((_INPUT, _OUTPUT))}
        return cls(arguments, inputs, outputs)
