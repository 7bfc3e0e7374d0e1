"""`auto_batch`: the largest batch that fits into memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from medloop.documents.hyperparameters import Hyperparameters
from medloop.training.losses import Reduction
from medloop.training.memory import is_out_of_memory, translate_oom
from medloop.training.optimisation import Optimisation
from medloop.training.parallel import Parallel
from medloop.training.task import Batch, TrainingTask


def choose_batch_size(
    task: TrainingTask[Batch], parallel: Parallel, optimisation: Optimisation, settings: Hyperparameters
) -> tuple[int, int]:
    """Choose batch_size and accumulation by the memory of the GPU; on the CPU batch_size is the maximum.

    Raises:
        SettingError: Not even one row per process fits.
    """
    ranks, device, requested = parallel.ranks, parallel.device, settings.batch_size
    limit = task.num_samples if device.type == "cuda" else requested
    # Memory of the optimiser's state, which its first step allocates.
    reserved = [torch.empty_like(weight) for weight in parallel.parameters for _ in range(2)]
    attempt = partial(_try_rows, task, parallel, optimisation)
    with translate_oom(settings, device):
        rows = int(min(ranks.gather(largest_that_fits(attempt, -(-limit // ranks.size)))))
    del reserved
    largest = rows * ranks.size
    batch_size, accumulation = max(requested, largest), -(-requested // largest)
    chosen = f"batch_size={batch_size}, accumulation={accumulation}"
    ranks.print_once(f"auto_batch: {rows} samples a process fit at once; {chosen}")
    return batch_size, accumulation


def _try_rows(task: TrainingTask[Batch], parallel: Parallel, optimisation: Optimisation, rows: int) -> None:
    """Compute a forward and backward pass of a number of rows, and delete its effects."""
    statistics = {name: value.clone() for name, value in parallel.module.named_buffers()}
    samples = [row % task.num_samples for row in range(max(rows, task.min_rows))]
    try:
        reduction = Reduction.local(len(samples), parallel.device)
        with parallel.without_gradient_sync(), optimisation.autocast():
            loss = task.loss(parallel.module, task.batch(samples, 1), reduction)
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        optimisation.optimiser.zero_grad(set_to_none=True)
        for name, value in parallel.module.named_buffers():
            value.copy_(statistics[name])


def largest_that_fits(attempt: Callable[[int], None], limit: int) -> int:
    """Find the largest number of rows that `attempt` computes without running out of memory.

    Doubles from 1, then bisects, to within an eighth.

    Args:
        attempt: Computes a number of rows.
        limit: The maximum.

    Returns:
        1 to `limit`.

    Raises:
        torch.OutOfMemoryError: Not even one row fits.
    """
    attempt(1)
    fits, fails = 1, limit + 1
    while fails - fits > max(1, fits // 8):
        rows = min(2 * fits, limit) if fails > limit else (fits + fails) // 2
        if _fits(attempt, rows):
            fits = rows
        else:
            fails = rows
        if fits == limit:
            break
    return fits


def _fits(attempt: Callable[[int], None], rows: int) -> bool:
    try:
        attempt(rows)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True
