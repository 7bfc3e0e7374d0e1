"""GPUs whose driver doesn't suit the image: named in one line, and the image's own libcuda is preferred."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medloop.container.gpu import Host, prefer_compatible_cuda, unusable_gpu
from medloop.errors import SettingError
from medloop.imaging import device

MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu May  1 12:00:00 UTC 2025\nGCC version: gcc 11\n"
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (root@ip)\n"


def host(folder: Path, driver: str | None, compatible: str | None = None, *, text: str = MODULE, gpus: int = 1) -> Host:
    """A host's folders."""
    devices, compat, version = folder / "dev", folder / "compat", folder / "version"
    devices.mkdir()
    for number in range(gpus):
        (devices / f"nvidia{number}").touch()
    if driver is not None:
        version.write_text(text.format(driver))
    if compatible is not None:
        compat.mkdir()
        (compat / f"libcuda.so.{compatible}").touch()
        (compat / "libcuda.so.1").symlink_to(f"libcuda.so.{compatible}")
    return Host(devices, version, compat)


@pytest.mark.parametrize(
    ("driver", "cuda", "text", "message"),
    [
        ("535.183.01", "13.3", MODULE, "driver 535.183.01 can't run this image's CUDA 13.3, which needs driver 580 or"),
        (
            "470.256.02",
            "12.9",
            OPEN_MODULE,
            "driver 470.256.02 can't run this image's CUDA 12.9, which needs driver 525",
        ),
        (None, "13.3", MODULE, "driver of unknown version can't run"),
        ("550.1", "14.0", MODULE, "which needs a newer driver;"),
        ("580.65.06", None, MODULE, "built for the CPU; choose a CPU instance"),
    ],
)
def test_a_gpu_that_can_t_be_used_is_named(
    tmp_path: Path, driver: str | None, cuda: str | None, text: str, message: str
) -> None:
    """Driver, need and fix in one line."""
    reason = unusable_gpu(cuda, {}, host(tmp_path, driver, text=text)) or ""
    assert message in reason
    assert "container.toml" in reason
    assert "\n" not in reason


def test_a_host_without_gpu_computes_on_the_cpu(tmp_path: Path) -> None:
    """No device file, or none that is visible."""
    assert unusable_gpu("13.3", {}, host(tmp_path, None, gpus=0)) is None
    (tmp_path / "more").mkdir()
    assert unusable_gpu("13.3", {"CUDA_VISIBLE_DEVICES": ""}, host(tmp_path / "more", "535.1")) is None


@pytest.mark.parametrize(
    ("driver", "compatible", "library_path", "expected"),
    [
        ("535.183.01", "580.65.06", "", "{}"),
        ("535.183.01", "580.65.06", "/usr/lib:/opt/lib", "{}:/usr/lib:/opt/lib"),
        ("580.65.06", "580.65.06", "", None),
        ("580.105.08", "580.65.06", "", None),
        ("535.183.01", None, "", None),
        (None, "580.65.06", "", None),
    ],
)
def test_the_image_s_own_libcuda_is_first_for_older_drivers(
    tmp_path: Path, driver: str | None, compatible: str | None, library_path: str, expected: str | None
) -> None:
    """The program starts again once, with the same arguments; on other hosts it continues."""
    calls: list[tuple[str, list[str], dict[str, str]]] = []

    def become(*call: Any) -> None:
        calls.append(call)

    machine = host(tmp_path, driver, compatible)
    prefer_compatible_cuda({"LD_LIBRARY_PATH": library_path}, machine, become, ["main.py", "train"])
    if expected is None:
        assert calls == []
        return
    ((_, argv, env),) = calls
    assert argv[1:] == ["main.py", "train"]
    assert env["LD_LIBRARY_PATH"] == expected.format(machine.compatible)
    prefer_compatible_cuda(env, machine, become, ["main.py", "train"])
    assert len(calls) == 1


@pytest.mark.parametrize("on_sagemaker", [True, False])
def test_a_billed_gpu_is_never_replaced_by_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, on_sagemaker: bool
) -> None:
    """On SageMaker the job fails at its start; elsewhere it is a note, and the CPU computes."""
    monkeypatch.setattr(device, "unusable_gpu", lambda cuda: f"GPU: driver 535 and CUDA {cuda}")
    monkeypatch.setattr(device, "is_on_sagemaker", lambda: on_sagemaker)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if on_sagemaker:
        with pytest.raises(SettingError, match="GPU: driver 535"):
            device.pick_device()
    else:
        assert device.pick_device() == torch.device("cpu")
        assert "computing on the CPU; GPU: driver 535" in capsys.readouterr().out
    assert device.pick_device("cpu") == torch.device("cpu")
