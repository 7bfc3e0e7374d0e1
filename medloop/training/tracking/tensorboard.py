"""TensorBoard: event files in a folder. Always on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medloop.training.tracking.base import Picture, RunInfo, Status


class TensorBoardTracker:
    """Scalars and pictures by epoch, the parameters as text, in the event files of a folder."""

    name = "TensorBoard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Here, not in `start`: two threads that import the same packages can meet half-made modules.
        from torch.utils.tensorboard import SummaryWriter

        self._make = SummaryWriter

    def start(self, info: RunInfo) -> None:
        """Open the event file."""
        self._writer = self._make(str(self._folder))
        rows = {**info.tags, **info.hyperparameters}
        table = "\n".join(["|name|value|", "|---|---|", *(f"|{key}|{value}|" for key, value in rows.items())])
        self._writer.add_text("run", table)

    def metrics(self, row: Mapping[str, float], step: int) -> None:
        """Add one point each; flushed, because they are read during training."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, name: str, image: Picture, step: int) -> None:
        """Add a picture unchanged."""
        self._writer.add_image(name, image, step, dataformats="HWC")

    def artefact(self, path: Path) -> None:
        """TensorBoard keeps no files."""

    def model(self, folder: Path) -> None:
        """TensorBoard keeps no models."""

    def finish(self, status: Status) -> None:
        """Close the event file."""
        self._writer.close()
