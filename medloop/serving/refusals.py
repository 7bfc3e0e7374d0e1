"""What an endpoint answers instead of a prediction: a status code and one line. No line repeats what a client sent."""

from __future__ import annotations

from medloop.errors import DataError


class RefusalError(DataError):
    """A request that gets no prediction.

    Args:
        status: HTTP status: 4xx where the client can mend it, 503 where waiting does.
        message: One line: what is wrong and what to send. It must hold no text of the request: headers of medical files
            name patients.
    """

    def __init__(self, status: int, message: str) -> None:
        """Keep the status beside the line."""
        super().__init__(message)
        self.status = status
