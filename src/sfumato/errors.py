"""Every error a user can meet, each with what happened, and what to do about it.

An error carries an HTTP status and a process exit code so that the API and the command line translate
nothing: they read the fields.
"""

from __future__ import annotations

from typing import ClassVar


class SfumatoError(Exception):
    """Base of all errors that Sfumato raises on purpose.

    Args:
        message: what happened, naming what was given.
        advice: what is allowed or what to do, as a sentence; empty where nothing useful can be said.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class InvalidRequest(SfumatoError):
    """A parameter or a combination of parameters makes no sense."""

    code = "invalid_request"
    status = 422
    exit_code = 2


class NotFound(SfumatoError, KeyError):
    """A model, file, sampler or other named thing does not exist. A `KeyError` too: a registry is a mapping."""

    code = "not_found"
    status = 404
    exit_code = 3


class Unsupported(SfumatoError):
    """The thing exists and is well formed, but this program cannot use it."""

    code = "unsupported"
    status = 422
    exit_code = 4


class CorruptFile(SfumatoError):
    """A file is cut, malformed, or not what its name says."""

    code = "corrupt_file"
    status = 422
    exit_code = 4


class UnsafeFile(SfumatoError):
    """A file asks for something that a picture or model file has no business asking for."""

    code = "unsafe_file"
    status = 422
    exit_code = 4


class Cancelled(SfumatoError):
    """The work was stopped because somebody asked for it."""

    code = "cancelled"
    status = 499
    exit_code = 130


class OutOfMemory(SfumatoError):
    """The device or the machine has too little memory for what was asked."""

    code = "out_of_memory"
    status = 507
    exit_code = 5


class DiskFull(SfumatoError):
    """There is no room left where the result had to be written."""

    code = "disk_full"
    status = 507
    exit_code = 6


class NotANumber(SfumatoError):
    """A model produced NaN or infinity: its weights or the precision are unfit."""

    code = "nan"
    status = 500
    exit_code = 7
