"""A serving container of a few lines, and what a test needs to host it."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from medloop.local.state.home import BUCKET, ROLE_ARN
from tests.unit.local.conftest import Local, wait_until

SERVER = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = Path(os.environ["ML_ROOT"]) / "model"
WORD = (MODEL / "word.txt").read_text() if (MODEL / "word.txt").exists() else "none"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"crash":
            os._exit(3)
        if body.startswith(b"sleep "):
            time.sleep(float(body.split()[1]))
        if body == b"bad":
            return self.answer(400, b'{"error": "no image"}')
        if body.startswith(b"large "):
            return self.answer(200, b"x" * int(body.split()[1]))
        seen = {"word": WORD, "size": len(body), "type": self.headers["Content-Type"], "accept": self.headers["Accept"],
                "setting": os.environ.get("SETTING"), "pid": os.getpid()}
        self.answer(200, json.dumps(seen).encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


assert sys.argv[1] == "serve"
if WORD == "broken":
    sys.exit("the model is broken")
print("serving", WORD, flush=True)
ThreadingHTTPServer.request_queue_size = 64
ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


def archive(files: dict[str, bytes]) -> bytes:
    """A model.tar.gz of these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@dataclass
class Hosting:
    """A local backend with a serving image."""

    local: Local
    runtime: Any
    image: str

    @classmethod
    def on(cls, local: Local) -> Hosting:
        """Store the tiny serving container's bundle."""
        return cls(local, local.boto.client("sagemaker-runtime"), local.image(SERVER))

    def store(self, word: str, content: bytes | None = None) -> str:
        """Store a model.tar.gz; returns its URI."""
        body = content if content is not None else archive({"word.txt": word.encode()})
        self.local.s3.put_object(Bucket=BUCKET, Key=f"models/{word}/model.tar.gz", Body=body)
        return f"s3://{BUCKET}/models/{word}/model.tar.gz"

    def model(self, word: str, content: bytes | None = None) -> str:
        """Create a model that answers with this word; returns its name."""
        container = {"Image": self.image, "ModelDataUrl": self.store(word, content), "Environment": {"SETTING": "yes"}}
        self.local.sagemaker.create_model(ModelName=word, PrimaryContainer=container, ExecutionRoleArn=ROLE_ARN)
        return word

    def config(self, word: str, name: str | None = None, variant: dict[str, Any] | None = None, **more: Any) -> str:
        """Create a configuration of one variant; returns its name."""
        fields = variant or {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        self.local.sagemaker.create_endpoint_config(
            EndpointConfigName=name or word,
            ProductionVariants=[{"VariantName": "AllTraffic", "ModelName": word, **fields}],
            **more,
        )
        return name or word

    def endpoint(self, word: str, name: str = "live", **config: Any) -> str:
        """Create a model, a configuration and an endpoint, and wait for it; returns its name."""
        self.config(self.model(word), **config)
        self.local.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=word)
        self.settle(name)
        return name

    def settle(self, name: str = "live") -> dict[str, Any]:
        """Wait until the endpoint is in no change; returns its description."""
        moving = ("Creating", "Updating", "Deleting")
        wait_until(lambda: self.describe(name)["EndpointStatus"] not in moving)
        return self.describe(name)

    def describe(self, name: str = "live") -> dict[str, Any]:
        """DescribeEndpoint."""
        return dict(self.local.sagemaker.describe_endpoint(EndpointName=name))

    def invoke(self, body: bytes, name: str = "live", **more: Any) -> bytes:
        """InvokeEndpoint; returns the body."""
        return bytes(self.runtime.invoke_endpoint(EndpointName=name, Body=body, **more)["Body"].read())

    def gone(self, name: str = "live") -> bool:
        """Whether the endpoint doesn't exist."""
        with suppress(self.local.sagemaker.exceptions.ClientError):
            self.describe(name)
            return False
        return True

    def supervisors(self) -> list[psutil.Process]:
        """The processes that look after this home's endpoints."""
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                home = process.environ().get("MEDLOOP_HOME") == str(self.local.home)
                if home and (process.cmdline() or [""])[-1].startswith("endpoint/"):
                    processes.append(process)
        return processes

    def containers(self) -> list[psutil.Process]:
        """The serving processes of this home."""
        return [process for process in psutil.process_iter() if _serves(process, self.local.home)]

    def close(self) -> None:
        """End all endpoints; none may leave a process."""
        names = [item["EndpointName"] for item in self.local.sagemaker.list_endpoints(MaxResults=100)["Endpoints"]]
        for name in names:
            self.settle(name)
            self.local.sagemaker.delete_endpoint(EndpointName=name)
        wait_until(lambda: all(self.gone(name) for name in names))
        wait_until(lambda: not self.supervisors() and not self.containers())
        left = self.local.home / "endpoints"
        assert not left.exists() or os.listdir(left) == []


def _serves(process: psutil.Process, home: Path) -> bool:
    with suppress(psutil.Error, OSError):
        return process.environ().get("ML_ROOT", "").startswith(f"{home}/endpoints/")
    return False
