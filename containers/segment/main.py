"""Train a 3D segmenter. Entry point of the training container `segment`; its contract is in README.md.

By hand, from the repository's root, on folders that the split job wrote:

    python containers/segment/main.py train \
        --channel-train split/train --channel-val split/val --channel-split split/split \
        --model-dir out/model --output-dir out/data --checkpoint-dir out/checkpoints \
        --model_name unet --unet_channels "[16, 32, 64, 128]" --patch_size "[64, 64, 64]" --epochs 5

To fine-tune an earlier model, add `--channel-weights FOLDER` (model.tar.gz, or its files). On several processes: add
`--strategy ddp` or `--strategy fsdp`; this program starts one process per GPU (`--processes N`: N processes).
"""

from __future__ import annotations

import sys

from medloop.container.launch import launch
from medloop.container.run import run
from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import SegmentationHyperparameters


def main() -> None:
    """Read the contract, train, write the model folder."""
    job = TrainingJob.read(sys.argv[1:])
    settings = SegmentationHyperparameters.from_wire(job.hyperparameters)
    launch(settings.strategy, settings.processes, sys.argv)
    # torch and MONAI take seconds to import; a wrong hyperparameter is refused before.
    from medloop.training.segmentation import train_segmenter

    train_segmenter(job, settings)


if __name__ == "__main__":
    run(main, kind="training")
