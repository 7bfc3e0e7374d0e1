"""Refused requests: a status code and one line. No line repeats text of the request."""

from __future__ import annotations

from medloop.errors import DataError


class RefusalError(DataError):
    """A request that gets no prediction.

    Args:
        status: HTTP status: 4xx if the client can fix the request, 503 if sending it again later helps.
        message: One line: what is wrong and what to send. It must contain no text of the request: headers of medical
            files name patients.
    """

    def __init__(self, status: int, message: str) -> None:
        """Store status and message."""
        super().__init__(message)
        self.status = status
