"""Supervises one endpoint as long as it exists, in a process of its own (`medloop.local.runner`).

It starts the containers, starts them again when they end, replaces them in an update (the old ones respond until the
new ones do), processes the queue of an asynchronous endpoint, and ends with the endpoint. Its state is the endpoint's
record, so that another supervisor takes over when it is killed; the containers are killed with it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from medloop.file_state import file_state
from medloop.local.errors import MAX_REASON, StartError
from medloop.local.hosting import endpoints
from medloop.local.hosting.calls import LOG_GROUP
from medloop.local.hosting.container import Container, GivenUpError, clear_endpoint
from medloop.local.hosting.queue import Queue
from medloop.local.jobs.folders import Folder
from medloop.local.process_identity import is_own
from medloop.local.state.backend import Backend
from medloop.local.state.home import new_id
from medloop.local.state.log_streams import LogStream
from medloop.local.state.store import Document, Table

_POLL_SECONDS, _REST_SECONDS = 0.1, 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


class Supervisor:
    """The supervisor of one endpoint.

    Args:
        backend: The backend.
        name: The endpoint.
        stop: Set to end (the computer shuts down); the endpoint comes back with its next request.
    """

    def __init__(self, backend: Backend, name: str, stop: threading.Event) -> None:
        self.backend = backend
        self.name = name
        self.stop = stop
        self.folder: Path = backend.home.root / "endpoints" / name
        self.containers: dict[str, Container] = {}
        self.retiring: list[threading.Thread] = []
        self.pause, self.not_before = _FIRST_PAUSE, 0.0
        self.queue = Queue(backend, name)

    def run(self) -> None:
        """Follow the record until the endpoint is gone, or another supervisor has taken over."""
        try:
            clear_endpoint(self.folder)
            with suppress(GivenUpError):
                while (record := self._record()) is not None and not self.stop.is_set() and self._follow(record):
                    self._rest()
        finally:
            for container in self.containers.values():
                container.end()
            for thread in self.retiring:
                thread.join()

    def _record(self) -> Document | None:
        """The endpoint's record, as long as it is this process's to follow."""
        with self.backend.store.read() as read:
            record = read.get(Table.ENDPOINTS, self.name)
        return record if record is not None and is_own(record["_supervisor"]) else None

    def _rest(self) -> None:
        """Wait for something to do; reading records is expensive, so they are read when their file has changed."""
        began, seen = time.monotonic(), self._states()
        while not self.stop.wait(_POLL_SECONDS) and time.monotonic() - began < _REST_SECONDS:
            ended = any(not container.running for container in self.containers.values())
            if ended or self._states() != seen or self.queue.waiting():
                return

    def _states(self) -> list[str]:
        states = []
        for path in (self.backend.home.database, self.backend.home.database.with_suffix(".db-wal")):
            with suppress(OSError):
                states.append(file_state(path.stat()))
        return states

    def _follow(self, record: Document) -> bool:
        """Follow the record once; False when nothing is left to do."""
        status = record["EndpointStatus"]
        if status == "Deleting":
            self._delete()
        elif status == "Creating":
            return self._create(record["_plan"])
        elif status == "Updating":
            self._keep(record)
            self._update(record)
        elif status == "InService":
            self._keep(record)
            self._work(record)
        return status in ("InService", "Updating")

    def _create(self, plan: Document) -> bool:
        try:
            self.containers = self._start_all(plan)
        except StartError as error:
            self._change(EndpointStatus="Failed", FailureReason=str(error)[:MAX_REASON])
            return False
        return self._change(EndpointStatus="InService", _processes=self._addresses())

    def _update(self, record: Document) -> None:
        """Start the update's containers next to the running ones, then switch; a failure changes nothing."""
        plan = record["_next"]
        try:
            fresh = self._start_all(plan)
        except StartError as error:
            reason = f"The update to {plan['config']} failed and was rolled back: {error}"
            self._change(EndpointStatus="InService", FailureReason=reason[:MAX_REASON], _next=None)
            return
        old, self.containers = self.containers, fresh
        done = {"_plan": plan, "_next": None, "_processes": self._addresses(), "EndpointConfigName": plan["config"]}
        self._change(EndpointStatus="InService", **done)
        self.pause, self.not_before = _FIRST_PAUSE, 0.0
        for container in old.values():
            thread = threading.Thread(target=container.retire)
            thread.start()
            self.retiring.append(thread)

    def _keep(self, record: Document) -> bool:
        """Start containers that ended again; True when all run."""
        missing = [plan for plan in record["_plan"]["variants"] if not self._runs(plan)]
        if not missing:
            return True
        if time.monotonic() < self.not_before:
            return False
        self.not_before, self.pause = time.monotonic() + self.pause, min(2 * self.pause, _LONGEST_PAUSE)
        for plan in missing:
            name = plan["variant"]["VariantName"]
            if (dead := self.containers.pop(name, None)) is not None:
                self._log(name).write(f"The container ended with code {dead.process.returncode}; it is started again")
                dead.end()
            try:
                self.containers[name] = self._start(plan)
            except StartError as error:
                self._log(name).write(f"The container can't be started: {error}")
                return False
        self._change(_processes=self._addresses())
        return True

    def _runs(self, plan: Document) -> bool:
        container = self.containers.get(plan["variant"]["VariantName"])
        return container is not None and container.running

    def _start_all(self, plan: Document) -> dict[str, Container]:
        started: dict[str, Container] = {}
        try:
            for variant in plan["variants"]:
                container = self._start(variant)
                started[container.variant] = container
        except StartError:
            for container in started.values():
                container.end()
            raise
        return started

    def _start(self, plan: Document) -> Container:
        """Start a container and wait until it is healthy."""
        log = self._log(plan["variant"]["VariantName"])
        container = Container.start(self.backend, Folder(self.folder / new_id(8)), plan, log)
        try:
            container.wait_healthy(self._may_continue)
        except BaseException:
            container.end()
            raise
        return container

    def _may_continue(self) -> bool:
        if self.stop.is_set() or (record := self._record()) is None:
            return False
        self._work(record)
        return True

    def _work(self, record: Document) -> None:
        if record["_plan"]["async"] and record["EndpointStatus"] != "Creating":
            self.queue.work(record["_plan"]["async"])

    def _addresses(self) -> Document:
        return {name: container.address for name, container in self.containers.items()}

    def _log(self, variant: str) -> LogStream:
        return LogStream.in_group(self.backend.home, LOG_GROUP, self.name, variant, "algo-1")

    def _change(self, **fields: object) -> bool:
        """Change the record; False when it is no longer this process's."""
        with self.backend.store.write() as write:
            record = write.get(Table.ENDPOINTS, self.name)
            if record is None or not is_own(record["_supervisor"]):
                return False
            if fields.get("EndpointStatus") == "InService":
                record.pop("FailureReason", None)
            endpoints.put_endpoint(write, record, **fields)
        return True

    def _delete(self) -> None:
        """End all, clear the folders, and only then forget the endpoint."""
        for container in self.containers.values():
            container.end()
        self.containers = {}
        self.queue.clear()
        clear_endpoint(self.folder)
        with self.backend.store.write() as write:
            record = write.get(Table.ENDPOINTS, self.name)
            if record is not None and is_own(record["_supervisor"]):
                write.delete(Table.ENDPOINTS, self.name)
                write.delete(Table.TAGS, record["EndpointArn"])
