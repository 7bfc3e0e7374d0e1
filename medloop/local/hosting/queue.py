"""The queue of an asynchronous endpoint: one file a request, processed in order; each response is an object in S3.

A request leaves the queue when its response or its failure is stored: after a crash it is sent again, never lost.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from medloop.documents.json_text import read_json
from medloop.local.errors import ServiceError
from medloop.local.hosting import calls
from medloop.local.process_identity import is_past
from medloop.local.state.backend import Backend
from medloop.local.state.objects import split_uri
from medloop.local.state.store import Document

MAX_BODY = 1 << 30
"""Bytes of an asynchronous request: 1 GB."""
DEFAULT_SECONDS, MAX_SECONDS = 900, 3600
DEFAULT_TTL = 21_600
_DEFAULT_CONCURRENCY = 4


class Queue:
    """The requests that wait for the endpoint of that name."""

    def __init__(self, backend: Backend, name: str) -> None:
        self.backend = backend
        self.name = name
        self.folder: Path = backend.home.root / "queues" / name
        self.running: dict[str, threading.Thread] = {}

    def put(self, request: Document) -> None:
        """Add a request: `input`, `output`, `failure`, `headers`, `seconds`, and the deadline."""
        folder = self.backend.home.folder("queues", self.name)
        temporary = self.backend.home.folder("tmp") / uuid.uuid4().hex
        temporary.write_text(json.dumps(request), encoding="utf-8")
        temporary.replace(folder / f"{time.time_ns():020}-{uuid.uuid4().hex}.json")

    def waiting(self) -> bool:
        """True if there is a request that no thread processes."""
        return any(path.name not in self.running for path in self.folder.glob("*.json"))

    def work(self, config: Document) -> None:
        """Start on as many requests as may run at once; returns at once."""
        self.running = {key: thread for key, thread in self.running.items() if thread.is_alive()}
        if not self.folder.is_dir():
            return
        most = config.get("ClientConfig", {}).get("MaxConcurrentInvocationsPerInstance", _DEFAULT_CONCURRENCY)
        waiting = [path for path in sorted(self.folder.glob("*.json")) if path.name not in self.running]
        for path in waiting[: most - len(self.running)]:
            thread = threading.Thread(target=self._process, args=(path,), daemon=True)
            self.running[path.name] = thread
            thread.start()

    def clear(self) -> None:
        """Forget all requests."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _process(self, path: Path) -> None:
        try:
            request = read_json(path)
        except FileNotFoundError:
            return  # processed just now
        try:
            response = self._send(request)
            self.backend.objects.put(*split_uri(request["output"]), response)
        except ServiceError as error:
            if request["failure"]:
                self.backend.objects.put(*split_uri(request["failure"]), error.message.encode())
        path.unlink(missing_ok=True)

    def _send(self, request: Document) -> bytes:
        if is_past(request):
            raise ServiceError("ModelError", "The request expired in the queue (RequestTTLSeconds)")
        body = self.backend.objects.read(request["input"])
        headers: Mapping[str, str] = request["headers"]
        seconds = request["seconds"]
        return calls.send(self.backend, self.name, body, headers, seconds=seconds, max_response=MAX_BODY).body
