"""What can stand in the way of a start, each as one sentence with what to do about it."""

from __future__ import annotations

import errno
import re
from pathlib import Path

DISK_FULL = 6  # the exit code of sfumato.errors.DiskFull, which cannot be imported yet


class LaunchError(Exception):
    """Sfumato cannot start; the message says why and what to do."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


FULL = "The disk ran full while the packages were being installed; make room and start again, it goes on where it stopped."
NO_NETWORK = (
    "The package index cannot be reached, so the packages were not installed; check the network or the proxy "
    "(HTTPS_PROXY), or name a reachable index in INDEX_URL, and start again."
)
BAD_CERTIFICATE = (
    "The package index was reached, but its certificate was not accepted; check the clock of this machine, or name "
    "your company's certificate file in PIP_CERT."
)
SYSTEM_PYTHON = (
    "This Python belongs to the operating system and must not be changed; leave VENV_DIR unset, so that Sfumato uses an "
    "environment of its own."
)
NO_PIP = "This Python has no pip; install it (on Debian and Ubuntu: apt install python3-pip), or leave VENV_DIR unset."
NO_VENV = (
    "This Python cannot make virtual environments, its venv module is missing; install it (on Debian and Ubuntu: "
    "apt install python3-venv) and start again."
)
DAMAGED = "A downloaded package is damaged; start again, and if it happens again run `pip cache purge` first."
NO_BUILD = (
    "The package index has no {what} for this Python and this system; another Python (named in PYTHON) or another way "
    "to install torch (TORCH_COMMAND) may do."
)
READ_ONLY = "The environment's folder cannot be written to; make it writable, or name another folder in VENV_DIR."

# What pip and venv say, and what we say then. The first match wins: an index that cannot be reached ends in "no
# matching distribution" as well, and a full disk in almost anything.
SYMPTOMS = (
    (r"No space left on device|Errno 28\b|Disk quota exceeded|Errno 122\b|not enough space on the disk|WinError 112", FULL),
    (r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError", BAD_CERTIFICATE),
    (
        r"NewConnectionError|Failed to establish a new connection|Temporary failure in name resolution|Name or service not known|"
        r"getaddrinfo failed|nodename nor servname|NameResolutionError|Network is unreachable|ConnectTimeout|ReadTimeout|"
        r"Read timed out|ProxyError|Max retries exceeded|ConnectionReset|Connection aborted|Connection broken|"
        r"RemoteDisconnected|IncompleteRead|Could not fetch URL|HTTP error 5\d\d|Tunnel connection failed",
        NO_NETWORK,
    ),
    (r"externally-managed-environment", SYSTEM_PYTHON),
    (r"No module named '?(venv|ensurepip)|ensurepip is not available", NO_VENV),
    (r"No module named '?pip\b", NO_PIP),
    (r"DO NOT MATCH THE HASHES|incorrect hash|BadZipFile|is an invalid wheel", DAMAGED),
    (r"No matching distribution found for (?P<what>[^\n]+)", NO_BUILD),
    (r"Permission denied|Errno 13\b|Read-only file system|Errno 30\b|Access is denied|WinError 5\b", READ_ONLY),
)


def explain(doing: str, output: str) -> LaunchError:
    """The sentence for a program that failed, from what it said; its last words where the reason is not one we know."""
    for symptom, sentence in SYMPTOMS:
        found = re.search(symptom, output)
        if found:
            return LaunchError(sentence.format(**found.groupdict()), DISK_FULL if sentence is FULL else 1)
    last = "\n".join(output.strip().splitlines()[-15:]) or "it said nothing"
    return LaunchError(f"{doing} failed: {last}")


def unwritable(folder: Path, error: OSError) -> LaunchError:
    """The sentence for a folder that refuses to be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LaunchError(f"The disk that holds {str(folder)!r} is full; make room and start again.", DISK_FULL)
    reason = error.strerror or str(error)
    advice = "make it writable, or name another folder in VENV_DIR"
    return LaunchError(f"The folder {str(folder)!r} cannot be written to ({reason}); {advice}.")
