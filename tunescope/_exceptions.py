"""Everything Tunescope raises on purpose:

    TunescopeError
    ├── ConnectionFailed    the service did not answer: not running, wrong address, timed out
    ├── ApiError            the service answered with an error: status, code, message, details
    └── JournalError        a local journal cannot be written or is not a journal

`Run.log` raises none of them: what goes wrong there is said once, through `logging`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ApiError", "ConnectionFailed", "JournalError", "TunescopeError"]


class TunescopeError(Exception):
    """Base of all errors of this package."""


class ConnectionFailed(TunescopeError):
    """The service did not answer. The request may or may not have arrived."""


class ApiError(TunescopeError):
    """The service answered with an error.

    `status` is the HTTP status, `code` a stable name to branch on, `message` a sentence for a person, and
    `details` what more the service had to say.
    """

    def __init__(self, status: int, code: str, message: str, details: Any = None) -> None:
        super().__init__(status, code, message, details)
        self.status = status
        self.code = code
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} (code {self.code}, {self.status})"


class JournalError(TunescopeError):
    """A local journal cannot be written, or a file is not a journal."""
