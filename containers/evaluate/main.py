"""Evaluate job: score a model on the test set.

By hand, from the repository's root, with folders that the split and training jobs wrote:

    python containers/evaluate/main.py --task classification --input-model MODEL --input-test SPLIT/test \
        --input-split SPLIT/split --output-evaluation OUT

README.md describes the contract.
"""

from __future__ import annotations

import sys

from medloop.container.arguments import parse_arguments
from medloop.container.processing import ProcessingJob
from medloop.container.run import run
from medloop.evaluation.evaluate import EvaluateArguments, evaluate, exit_message


def main() -> None:
    """Read the contract, evaluate, and write the score to the exit message."""
    job = ProcessingJob.read(sys.argv[1:])
    arguments = parse_arguments(EvaluateArguments, job.arguments)
    evaluation = evaluate(
        job.input("model"),
        job.input("test"),
        job.input("split"),
        job.output("evaluation"),
        arguments,
        champion=job.optional_input("champion"),
        first=job.optional_input("first"),
    )
    job.set_exit_message(exit_message(evaluation))


if __name__ == "__main__":
    run(main, kind="processing")
