"""Where a run runs: what is needed to do it again. Secrets are masked before anything leaves the process."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import psutil

from tunescope._system import gpu_driver, gpu_names

__all__ = ["capture", "mask"]

MASK = "***"
SECRET_NAME = re.compile(
    r"(^|[-_])(api[-_]?key|key|token|secret|password|passwd|credentials?)s?($|[-_=])", re.IGNORECASE
)
NOT_SECRET = re.compile(r"(max|new|num|pad|eos|bos|unk|special|per)[-_].*tokens?|tokens?[-_](per|id)", re.IGNORECASE)
SECRET_VALUE = re.compile(
    r"\b(sk|pk|rk|hf|ghp|gho|github_pat|glpat|xox[abp]|AKIA|ts)[-_]?[A-Za-z0-9_-]{16,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)


def capture() -> dict[str, Any]:
    """Git, command line, Python, packages, host and hardware. Takes some tens of milliseconds."""
    return {
        "git": _git(),
        "command": mask(sys.orig_argv),
        "working_directory": os.getcwd(),  # noqa: PTH109
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": _packages(),
        "host": socket.gethostname(),
        "user": os.environ.get("USER") or None,
        "pid": os.getpid(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpu_names(),
        "gpu_driver": gpu_driver(),
        "seeds": {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED")},
    }


def mask(arguments: Sequence[str]) -> list[str]:
    """A command line without its secrets: `--api-key X`, `TOKEN=X`, known key formats, passwords in URLs."""
    masked: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = bool(SECRET_NAME.search(name)) and not NOT_SECRET.search(name)
        if hide_next and not argument.startswith("--"):
            masked.append(MASK)
        elif equals and secret:
            masked.append(f"{name}={MASK}")
        else:
            masked.append(SECRET_VALUE.sub(MASK, argument))
        hide_next = secret and not equals and argument.startswith("-")
    return masked


def _git() -> dict[str, Any] | None:
    commit = _output("git", "rev-parse", "HEAD")
    if commit is None:
        return None
    remote = _output("git", "remote", "get-url", "origin")
    return {
        "commit": commit,
        "branch": _output("git", "rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": bool(_output("git", "status", "--porcelain", "--untracked-files=no")),
        "remote": SECRET_VALUE.sub(MASK, remote) if remote else None,
    }


def _output(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails, or takes longer than two seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def _packages() -> dict[str, str]:
    """Installed distributions and their versions."""
    found = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata
        if metadata is not None and (name := metadata["Name"]):
            found[name] = distribution.version
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
