"""One process of `scaling.py`: a training as in the container, and the memory of the process.

Started by torchrun or directly.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from medloop.documents.hyperparameters import SegmentationHyperparameters
from medloop.training.segmentation import train_segmenter
from workshop import data
from workshop.report import PeakMemory


def main(argv: list[str]) -> None:
    """Train, and write the result as `rank-N.json`.

    Args:
        argv: The data, a folder to write to, and hyperparameters as JSON.
    """
    folder, out, text = Path(argv[0]), Path(argv[1]), argv[2]
    settings = SegmentationHyperparameters.model_validate(json.loads(text))
    num_bytes: list[int] = []

    def count(optimiser: Optimizer, *_: Any) -> None:
        """Measure the optimiser's state, which exists after the first step."""
        if not num_bytes:
            num_bytes.append(state_bytes(optimiser))

    handle = register_optimizer_step_post_hook(count)
    with PeakMemory() as memory:
        result = train_segmenter(data.job(folder, out / "job"), settings)
    handle.remove()
    record = {"bytes": num_bytes[0], "peak_bytes": memory.num_bytes, "history": result.history}
    (out / f"rank-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(record), encoding="utf-8")


def state_bytes(optimiser: Optimizer) -> int:
    """Bytes of weights and of the optimiser's state in this process."""
    tensors: list[Tensor] = [weight for group in optimiser.param_groups for weight in group["params"]]
    for state in optimiser.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    return sum((tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes for tensor in tensors)


if __name__ == "__main__":
    main(sys.argv[1:])
