"""Orthanc as a real archive, for a test."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

PLUGINS = Path("/usr/share/orthanc/plugins")


def free_port() -> int:
    """A port that no server uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def run_orthanc(folder: Path) -> Iterator[str]:
    """Start Orthanc with a storage of its own; gives the URL of its DICOMweb."""
    if not shutil.which("Orthanc") or not PLUGINS.is_dir():
        pytest.skip("Orthanc is not installed (apt-get install orthanc orthanc-dicomweb)")
    port, home = free_port(), folder / "orthanc"
    home.mkdir()
    settings = {
        "HttpPort": port, "DicomPort": free_port(), "StorageDirectory": str(home), "IndexDirectory": str(home),
        "RemoteAccessAllowed": False, "Plugins": [str(PLUGINS)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command = ["Orthanc", str(folder / "orthanc.json")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                requests.get(f"http://127.0.0.1:{port}/dicom-web/studies", timeout=1).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/dicom-web"
    finally:
        process.terminate()
        process.wait(20)
