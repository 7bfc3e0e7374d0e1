"""Train a 2D image classifier. Entry point of the training container `classify`; contract: README.md.

By hand, from the repository's root, on folders that the split job wrote:

    python containers/classify/main.py train \
        --channel-train split/train --channel-val split/val --channel-split split/split \
        --model-dir out/model --output-dir out/data --checkpoint-dir out/checkpoints \
        --model_name resnet18 --image_size 64 --epochs 5

To fine-tune an earlier model, add `--channel-weights FOLDER` (model.tar.gz, or its files). On several processes: add
`--strategy ddp` or `--strategy fsdp`; this program starts one process per GPU (`--processes N`: N processes).
"""

from __future__ import annotations

import sys

from medloop.container.launch import launch
from medloop.container.run import run
from medloop.container.training import TrainingJob
from medloop.documents.hyperparameters import ClassificationHyperparameters


def main() -> None:
    """Read the contract, train, write the model folder."""
    job = TrainingJob.read(sys.argv[1:])
    settings = ClassificationHyperparameters.from_wire(job.hyperparameters)
    launch(settings.strategy, settings.processes, sys.argv)
    # torch takes seconds to import; a wrong hyperparameter is refused before.
    from medloop.training.classification import train_classifier

    train_classifier(job, settings)


if __name__ == "__main__":
    run(main, kind="training")
