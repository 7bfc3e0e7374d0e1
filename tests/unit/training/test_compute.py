"""How a network is computed changes what it learns by rounding only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medloop.documents.hyperparameters import (
    ClassificationHyperparameters,
    Hyperparameters,
    SegmentationHyperparameters,
)
from medloop.documents.networks import Traits
from medloop.errors import SettingError
from medloop.imaging.resampling import LinearUpsample, replace_upsampling, upsample_linear
from medloop.training.auto_batch import largest_that_fits
from medloop.training.compilation import Compiler, compile_network, synchronised
from medloop.training.compute import blocks, prepare_network
from medloop.training.memory import advice, translate_oom
from medloop.training.optimisation import restore_scaler, update_averages
from tests.unit.training.distributed import CPU
from tests.unit.training.resumable import run, state

TRAITS = Traits(("Block",), channels_last=True)


class Block(nn.Module):
    """Convolution, batch normalisation, dropout."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout(dropout)
        )

    def forward(self, images: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        return images + self.layers(images)


def network(dropout: float = 0.3) -> nn.Module:
    """Two blocks, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), Block(4, dropout), Block(4, dropout), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


def settings(**changes: Any) -> Hyperparameters:
    """With those changes."""
    return Hyperparameters.model_validate(changes)


def trained(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Gradients and statistics after one training pass."""
    model.train()
    torch.manual_seed(1)
    model(images).square().sum().backward()
    actual = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    statistics = {name: value.clone() for name, value in model.named_buffers() if "num_batches" not in name}
    return actual | statistics


@pytest.mark.parametrize(
    ("changes", "dropout"),
    [
        ({"activation_checkpointing": True, "channels_last": False}, 0.3),
        ({"channels_last": True}, 0.0),  # another layout draws other dropout
        ({"channels_last": True, "activation_checkpointing": True}, 0.0),
    ],
)
def test_gradients_and_statistics_stay(changes: dict[str, Any], dropout: float) -> None:
    """Recomputed activations draw the same dropout and count no batch twice; a layout changes rounding."""
    images = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    plain, changed = network(dropout), network(dropout)
    prepare_network(plain, settings(channels_last=False), TRAITS, CPU)
    prepare_network(changed, settings(**changes), TRAITS, CPU)
    expected, actual = trained(plain, images), trained(changed, images)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-5, rtol=1e-4)
    assert changed.state_dict().keys() == plain.state_dict().keys()


def test_statistics_stand_still_where_layers_were_replaced() -> None:
    """Processes on GPUs synchronise batch normalisation: its layers are exchanged after recomputation was set up."""
    images = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    plain, changed = network(0.0), network(0.0)
    prepare_network(plain, settings(channels_last=False), TRAITS, CPU)
    prepare_network(changed, settings(channels_last=False, activation_checkpointing=True), TRAITS, CPU)
    changed = nn.SyncBatchNorm.convert_sync_batchnorm(changed)
    expected, actual = trained(plain, images), trained(changed, images)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-5, rtol=1e-4)


def test_layouts_are_the_networks_own_by_default() -> None:
    """Auto follows what was measured; FSDP keeps plain layouts."""
    for changes, last in (({}, True), ({"channels_last": False}, False), ({"strategy": "fsdp"}, False)):
        model = network()
        prepare_network(model, settings(**changes), TRAITS, CPU)
        weight = model[1].layers[0].weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == last
    assert len(blocks(network(), TRAITS)) == 2


def test_activation_memory_falls() -> None:
    """With recomputation fewer tensors are kept for the backward pass."""
    saved = []
    for recompute in (False, True):
        model, size = network(), 0
        prepare_network(model, settings(activation_checkpointing=recompute, channels_last=False), TRAITS, CPU)

        def count(tensor: Tensor) -> Tensor:
            nonlocal size
            size += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(torch.randn(3, 1, 24, 24))
        saved.append(size)
    assert saved[1] < 0.7 * saved[0]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 3, 4, 5), (1, 1, 1, 2, 1)])
def test_linear_upsampling_is_torchs(shape: tuple[int, ...]) -> None:
    """Value and gradient, in two and three dimensions, at borders too."""
    images = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mode = "bilinear" if len(shape) == 4 else "trilinear"
    expected = torch.nn.functional.interpolate(images, scale_factor=2, mode=mode, align_corners=False)
    actual, weights = upsample_linear(images), torch.randn_like(expected)
    torch.testing.assert_close(actual, expected)
    [theirs], [ours] = (torch.autograd.grad((value * weights).sum(), images) for value in (expected, actual))
    torch.testing.assert_close(ours, theirs)


def test_upsampling_is_replaced_where_it_is_the_same() -> None:
    """Linear by two is; nearest, another factor and aligned corners are left alone."""
    layers = [nn.Upsample(scale_factor=2, mode="trilinear"), nn.Upsample(scale_factor=2, mode="nearest"),
              nn.Upsample(scale_factor=4, mode="trilinear"),
              nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)]  # fmt: skip
    model = nn.Sequential(nn.Sequential(*layers))
    replace_upsampling(model)
    assert [isinstance(layer, LinearUpsample) for layer in model[0]] == [True, False, False, False]


def test_compiling_is_left_alone_where_it_does_not_pay() -> None:
    """Off, on the CPU, and in deterministic runs by default; once if it is set."""
    assert not any(Compiler(settings(compile=False), CPU, 10**9).due() for _ in range(50))
    assert not any(Compiler(settings(), CPU, 10**9).due() for _ in range(50))
    compiler = Compiler(settings(compile=True), CPU, 10)
    assert [compiler.due() for _ in range(3)] == [True, False, False]


def test_compiling_waits_for_batches_made_ahead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Timed over steps 11 to 20; batches get one shape then, and those made before are used up first."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    compiler_due: list[bool] = []
    for pays in (True, False):
        compiler = Compiler(settings(), torch.device("cuda", 0), 10**12, agree=lambda worthwhile, pays=pays: pays)
        compiler_due = [compiler.due() for _ in range(40)]
        assert compiler.decided == pays
        assert [step for step, due in enumerate(compiler_due, start=1) if due] == ([23] if pays else [])
    assert capsys.readouterr().out.count("compiling the network") == 1


def test_where_compiling_is_possible() -> None:
    """By default on a GPU, if the network suits it and the run isn't deterministic; anywhere if it is set."""
    gpu = torch.device("cuda", 0)
    assert Compiler(settings(), gpu, 1).possible
    assert not Compiler(settings(), CPU, 1).possible
    assert not Compiler(settings(), gpu, 1, suits=False).possible
    assert not Compiler(settings(deterministic=True), gpu, 1).possible
    assert not Compiler(settings(compile=False), gpu, 1).possible
    assert Compiler(settings(compile=True), CPU, 1, suits=False).possible
    assert not synchronised(network())
    assert synchronised(nn.SyncBatchNorm.convert_sync_batchnorm(network()))


@pytest.mark.slow
def test_a_compiled_network_keeps_its_names(tmp_path: Path) -> None:
    """Compiled in place: the weights' names, and the scores up to rounding."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    names, images = list(model.state_dict()), torch.randn(5, 3)
    expected = model(images)
    compile_network(model, Traits(), by_block=False)
    torch.testing.assert_close(model(images), expected)
    assert list(model.state_dict()) == names
    assert tmp_path


@pytest.mark.slow
def test_recomputed_blocks_are_compiled_each() -> None:
    """Recomputation works by hooks around a block, which compiled code can't hold: what is within is compiled."""
    images = torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    plain, compiled = network(0.0), network(0.0)
    for model in (plain, compiled):
        prepare_network(model, settings(channels_last=False, activation_checkpointing=True), TRAITS, CPU)
    compile_network(compiled, TRAITS, by_block=True)
    expected, actual = trained(plain, images), trained(compiled, images)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-4, rtol=1e-4)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.slow
def test_validation_compiles_nothing(tmp_path: Path) -> None:
    """A compiled run has one shape, also of its last batch; validation has many, and leaves compiled code alone."""
    from tests.unit.training.test_trainer import LineTask, train

    class Shapes(LineTask):
        def validate(self, model: nn.Module) -> dict[str, float]:
            for rows in (1, 2, 5):
                model(torch.zeros(rows, 1))
            return super().validate(model)

    torch._dynamo.utils.counters.clear()
    train(Shapes(10), tmp_path, epochs=3, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_scaler_goes_on() -> None:
    """Its state comes back from JSON as plain numbers, of which torch wants some to be integers."""
    weight = nn.Parameter(torch.ones(2))
    first, second = torch.amp.GradScaler("cpu", init_scale=4.0), torch.amp.GradScaler("cpu")
    restore_scaler(second, {name: float(value) for name, value in first.state_dict().items()})
    second.scale(weight.sum()).backward()
    second.step(torch.optim.SGD([weight], lr=0.5))
    second.update()
    assert torch.equal(weight.detach(), torch.full((2,), 0.5))
    assert second.state_dict()["scale"] == 4.0
    assert second.state_dict()["_growth_tracker"] == 1


def test_averages_follow_the_weights() -> None:
    """Step n keeps (1 + n) / (10 + n) at most, later the decay."""
    weights, averages = [nn.Parameter(torch.tensor([1.0]))], [torch.tensor([0.0])]
    update_averages(averages, weights, 0.5, 1)
    assert float(averages[0]) == pytest.approx(9 / 11)
    update_averages(averages, weights, 0.5, 1000)
    assert float(averages[0]) == pytest.approx(0.5 * 9 / 11 + 0.5)


@pytest.mark.slow
def test_a_deterministic_run_repeats_to_the_last_bit(tmp_path: Path) -> None:
    """Twice the same weights; and averages, which are validated and kept, are others than the weights."""
    first, again = (state(run(tmp_path / name, checkpoint_minutes=9)) for name in ("a", "b"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    plain = state(run(tmp_path / "c", checkpoint_minutes=9, ema=0.0))
    assert not all(torch.equal(first[name], plain[name]) for name in first)


def test_a_batch_in_parts_is_the_batch(tmp_path: Path) -> None:
    """Accumulation gives the loss of the whole batch; Dice is taken over each part, so classification is compared."""
    # Segmentation's own parts are covered by the parity of processes; a mean over samples must not change at all.
    from tests.unit.training.test_trainer import LineTask, train

    full, _ = train(LineTask(8), tmp_path / "a", epochs=3, batch_size=8, accumulation=1)
    parts, _ = train(LineTask(8), tmp_path / "b", epochs=3, batch_size=8, accumulation=3)
    for expected, actual in zip(full.history, parts.history, strict=True):
        assert expected["train_loss"] == pytest.approx(actual["train_loss"], rel=1e-5)


class TestMemory:
    """Memory that runs out."""

    def test_advice_comes_in_the_order_of_its_cost(self) -> None:
        """Accumulation, batch, patch, recomputation, FSDP; what is done already is left out."""
        text = advice(SegmentationHyperparameters(batch_size=4))
        order = ["accumulation=2", "batch_size=2", "patch_size", "activation_checkpointing=true", "strategy=fsdp"]
        positions = [text.index(word) for word in order]
        assert positions == sorted(positions)
        assert text.endswith("or let auto_batch=true find what fits")
        least = advice(
            SegmentationHyperparameters(batch_size=1, activation_checkpointing=True, strategy="fsdp", mode="resize")
        )
        assert "accumulation" not in least
        assert "batch" not in least
        assert "a smaller size than [128, 128, 64]" in least
        assert "image_size" in advice(ClassificationHyperparameters())

    @pytest.mark.parametrize(
        "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] can't allocate memory: 9")]
    )
    def test_names_what_to_change(self, error: Exception) -> None:
        """A GPU's error and the CPU's; any other stays what it is."""
        message = "this host ran out of memory; try in this order: accumulation=2"
        with pytest.raises(SettingError, match=message), translate_oom(settings(), CPU):
            raise error
        with pytest.raises(RuntimeError, match="shapes differ"), translate_oom(settings(), CPU):
            raise RuntimeError("shapes differ")

    @pytest.mark.parametrize("holds", [1, 2, 3, 7, 8, 100])
    def test_the_largest_batch_is_found(self, holds: int) -> None:
        """To within an eighth, never more than fits, in few attempts."""
        tried = []

        def attempt(rows: int) -> None:
            tried.append(rows)
            if rows > holds:
                raise torch.OutOfMemoryError

        for limit in (1, 5, 64):
            tried.clear()
            actual = largest_that_fits(attempt, limit)
            best = min(holds, limit)
            assert best - max(1, best // 8) <= actual <= best
            assert len(tried) <= 12
        with pytest.raises(torch.OutOfMemoryError):
            largest_that_fits(lambda _: attempt(holds + 1), 4)

    @pytest.mark.parametrize(
        "text", ["CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory"]
    )
    def test_libraries_run_out_of_memory_too(self, text: str) -> None:
        """NVIDIA's libraries say so in their own words; any other error isn't about memory."""

        def attempt(rows: int) -> None:
            if rows > 3:
                raise RuntimeError(f"CUDA error: {text} when calling `cublasCreate(handle)`")

        assert largest_that_fits(attempt, 8) == 3
        with pytest.raises(SettingError, match=r"this host ran out of memory; try"), translate_oom(settings(), CPU):
            attempt(4)
        with pytest.raises(RuntimeError, match="something else"), translate_oom(settings(), CPU):
            raise RuntimeError("something else")

    def test_a_batch_that_does_not_fit_is_accumulated(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """auto_batch on a machine that holds three rows: the batch of eight comes in three parts."""
        from tests.unit.training.test_trainer import LineTask, train

        class Small(LineTask):
            def batch(self, samples: Any, epoch: int) -> Tensor:
                if len(samples) > 3:
                    raise torch.OutOfMemoryError
                return super().batch(samples, epoch)

        result, _ = train(Small(8), tmp_path / "a", epochs=2, batch_size=8, auto_batch=True)
        assert "auto_batch: 3 samples a process fit at once; batch_size=8, accumulation=3" in capsys.readouterr().out
        expected, _ = train(LineTask(8), tmp_path / "b", epochs=2, batch_size=8)
        assert result.history[-1]["train_loss"] == pytest.approx(expected.history[-1]["train_loss"], rel=1e-5)
        with pytest.raises(SettingError, match="ran out of memory"):
            train(Small(8), tmp_path / "c", epochs=2, batch_size=8)
