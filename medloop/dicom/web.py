"""DICOMweb servers (PS3.18): studies are fetched into a folder, each file once, and results are stored. Torch-free."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from medloop.dicom.elements import integer, items
from medloop.dicom.library import load_pydicom
from medloop.errors import DataError, MedloopError, UserError
from medloop.imaging.progress_lines import Progress

TOKEN_VARIABLE = "MEDLOOP_DICOMWEB_TOKEN"  # noqa: S105 (a variable's name)
PAGE = 200
"""Results of a query that are requested at once."""
MAX_PAGES = 100_000
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_ANY_SYNTAX = (("application/dicom", "*"),)
"""As the server stores it: nothing is decompressed on the way."""
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
"""Tags in responses."""
_REFUSED = (401, 403)
Records = Sequence[Mapping[str, Any]]


class WebClient(Protocol):
    """The methods of dicomweb_client's DICOMwebClient that are used."""

    def search_for_studies(self, *, limit: int, offset: int, search_filters: dict[str, Any]) -> Records:
        """Query studies."""

    def search_for_series(self, study: str, /, *, limit: int, offset: int) -> Records:
        """Query the series of a study."""

    def search_for_instances(self, study: str, series: str, /, *, limit: int, offset: int) -> Records:
        """Query the instances of a series."""

    def iter_series(self, study: str, series: str, /, *, media_types: Any) -> Iterator[Any]:
        """Retrieve the instances of a series."""

    def retrieve_instance(self, study: str, series: str, instance: str, /, *, media_types: Any) -> Any:
        """Retrieve an instance."""

    def store_instances(self, datasets: Sequence[Any]) -> Any:
        """Store instances; the response names those that failed."""


@dataclass(frozen=True)
class Fetched:
    """The result of a fetch.

    Attributes:
        num_files: Files of the query.
        num_new: Files of them that were fetched.
        num_missing: Files of them that the server lists and didn't send.
    """

    num_files: int
    num_new: int
    num_missing: int


def open_client(url: str) -> WebClient:
    """Open a server; a bearer token comes from MEDLOOP_DICOMWEB_TOKEN, name and password from ~/.netrc.

    Raises:
        UserError: The extra `dicom` is not installed, or it is no URL of a server.
    """
    load_pydicom()
    try:
        from dicomweb_client.web import DICOMwebClient
    except ImportError as error:
        raise UserError(f"DICOMweb: package {error.name} is not installed; run pip install 'medloop[dicom]'") from None
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise UserError(f"{parts.hostname}: leave name and password out of the URL; write them to ~/.netrc")
    token = os.environ.get(TOKEN_VARIABLE)
    headers = {"Authorization": f"Bearer {token}"} if token else None
    try:
        client: WebClient = DICOMwebClient(url.rstrip("/"), headers=headers)
    except ValueError as error:
        raise UserError(f"{url}: is no URL of a DICOMweb server ({error}); give http(s)://HOST:PORT/PATH") from None
    return client


def fetch(client: WebClient, url: str, folder: Path, filters: Mapping[str, str], show: Progress) -> Fetched:
    """Fetch the instances of the studies that match, each as `STUDY/SERIES/INSTANCE.dcm`.

    Args:
        client: The server's.
        url: For messages.
        folder: Made where it is missing.
        filters: Values by keyword, as `ModalitiesInStudy`; QIDO's wildcards and ranges.
        show: Called with (files done, files in all).

    Raises:
        DataError: The server can't be reached, or refuses.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _Translated(url):
        listed = list(_list(client, dict(filters)))
        counts = _Counts(len(listed), show)
        for (study, series), instances in _by_series(listed).items():
            _fetch_series(client, folder / study / series, (study, series), instances, counts)
    return Fetched(len(listed), counts.num_new, len(listed) - counts.done)


def store(client: WebClient, url: str, dataset: Any) -> None:
    """Store an instance by STOW-RS.

    Raises:
        DataError: The server can't be reached, or refuses the instance.
    """
    with _Translated(url, f"check the URL, and that the server takes {dataset.Modality}"):
        response = client.store_instances([dataset])
    failed = items(response, "FailedSOPSequence")
    if failed:
        reason = integer(failed[0], "FailureReason")
        raise DataError(
            f"{url}: refuses the result (FailureReason {reason:04X}h); check that it takes {dataset.Modality}"
        )


@dataclass
class _Counts:
    total: int
    show: Progress
    done: int = 0
    num_new: int = 0

    def add(self, number: int, *, is_new: bool) -> None:
        self.done += number
        self.num_new += number if is_new else 0
        self.show(self.done, self.total)


class _Translated:
    """Errors of the network and of the server in one line."""

    def __init__(self, url: str, fix: str = "check the URL and --query") -> None:
        self._url, self._fix = url, fix

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import requests

        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _REFUSED:
            fix = f"set {TOKEN_VARIABLE}, or write name and password to ~/.netrc"
            raise DataError(f"{self._url}: refuses access (status {status}); {fix}") from None
        if isinstance(error, requests.HTTPError):
            raise DataError(f"{self._url}: responds with status {status}; {self._fix}") from None
        if isinstance(error, requests.RequestException):
            raise DataError(f"{self._url}: can't be reached ({type(error).__name__}); check the URL") from None
        # Two libraries parse what a server sends, and raise what they meet.
        if isinstance(error, Exception) and not isinstance(error, OSError | MedloopError):
            raise DataError(f"{self._url}: its response is no DICOMweb; check the URL's path") from None


def _list(client: WebClient, filters: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Study, series and instance of each file that matches."""
    for study in _pages(partial(client.search_for_studies, search_filters=filters), _STUDY):
        for series in _pages(partial(client.search_for_series, study), _SERIES):
            for instance in _pages(partial(client.search_for_instances, study, series), _INSTANCE):
                yield study, series, instance


def _pages(query: Callable[..., Records], tag: str) -> Iterator[str]:
    """The UIDs of a query, each once; a server that ignores the offset sends the same ones again, which ends it."""
    known: set[str] = set()
    for page in range(MAX_PAGES):
        uids = [_uid(record, tag) for record in query(limit=PAGE, offset=page * PAGE)]
        new = [uid for uid in dict.fromkeys(uids) if uid not in known]
        yield from new
        known.update(new)
        if not new or len(uids) < PAGE:
            return


def _uid(record: Mapping[str, Any], tag: str) -> str:
    """A UID of a response; it becomes a file's name, so it has digits and dots only."""
    uid = str(record[tag]["Value"][0])
    if not _UID.fullmatch(uid):
        raise ValueError("no UID")
    return uid


def _by_series(files: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for study, series, instance in files:
        groups.setdefault((study, series), []).append(instance)
    return groups


def _fetch_series(
    client: WebClient, folder: Path, uids: tuple[str, str], instances: Sequence[str], counts: _Counts
) -> None:
    """Fetch what is missing of a series: all at once, or one by one if most is there."""
    absent = {instance for instance in instances if not (folder / f"{instance}.dcm").exists()}
    counts.add(len(instances) - len(absent), is_new=False)
    if not absent:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if 2 * len(absent) > len(instances):
        datasets = client.iter_series(*uids, media_types=_ANY_SYNTAX)
    else:
        datasets = (client.retrieve_instance(*uids, uid, media_types=_ANY_SYNTAX) for uid in sorted(absent))
    for dataset in datasets:
        uid = str(dataset.SOPInstanceUID)
        if uid in absent:
            absent.remove(uid)
            scratch = folder / f".{uid}.part"
            dataset.save_as(scratch, enforce_file_format=True)
            os.replace(scratch, folder / f"{uid}.dcm")
            counts.add(1, is_new=True)
