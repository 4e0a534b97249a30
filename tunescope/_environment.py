"""Where a run runs: what is needed to do it again. Secrets are masked before anything leaves the process."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from tunescope._system import gpu_facts

__all__ = ["MASK", "capture", "git_diff", "is_secret", "mask", "text_masker"]

MASK = "***"
SECRET_NAME = re.compile(
    r"(^|[-_])(api[-_]?key|key|token|secret|password|passwd|credentials?)s?($|[-_=])", re.IGNORECASE
)
NOT_SECRET = re.compile(r"(max|new|num|pad|eos|bos|unk|special|per)[-_].*tokens?|tokens?[-_](per|id)", re.IGNORECASE)
# Key formats of model hubs, clouds and code hosts; JSON Web Tokens; name and password in a URL; what follows `Bearer`.
SECRET_VALUE = re.compile(
    r"\b(sk|pk|rk|hf|ghp|gho|github_pat|glpat|xox[abp]|AKIA|ts)[-_]?[A-Za-z0-9_-]{16,}|"
    r"\b(gsk|r8|npm|pypi|nvapi|dckr_pat|ya29|AIza|dapi)[-_.]?[A-Za-z0-9_-]{28,}|"
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+|"
    r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)|(?<=\b[Bb]earer )[A-Za-z0-9._~+/-]{12,}=*"
)
ASSIGNED = re.compile(
    r"(?i)\b((?:\w+[_-])?(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?token|auth[_-]?token|password|passwd)\b[\"']?"
    r"\s*[=:]\s*[\"']?)([^\s\"',;)}\]]{6,})"
)
HEADER = re.compile(r"^(Name|Version): *(\S+)", re.MULTILINE)
SHORTEST_SECRET = 8
LARGEST_DIFF = 1_000_000
# What decides how a training runs. Anything else in the environment stays where it is.
VARIABLES = re.compile(
    r"(CUDA|NVIDIA|HIP|ROCR)_(VISIBLE_DEVICES|DEVICE_ORDER|LAUNCH_BLOCKING)|CUBLAS_WORKSPACE_CONFIG|"
    r"(LOCAL_|GROUP_|NODE_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)|TORCHELASTIC_(RUN_ID|RESTART_COUNT)|"
    r"SLURM_(JOB_ID|JOB_NAME|NTASKS|NNODES|NODELIST|PROCID|ARRAY_JOB_ID|ARRAY_TASK_ID)|OMPI_COMM_WORLD_(RANK|SIZE)|"
    r"(OMP|MKL|OPENBLAS)_NUM_THREADS|TOKENIZERS_PARALLELISM|PYTHONHASHSEED|PYTORCH_(CUDA_)?ALLOC_CONF|"
    r"(NCCL|GLOO|ACCELERATE|FSDP|DEEPSPEED|TORCH)_[A-Z_]+|(HF|TRANSFORMERS)_(HOME|HUB_OFFLINE|OFFLINE)"
)


def capture() -> dict[str, Any]:
    """Git, command line, Python, packages, host and hardware. Takes some tens of milliseconds."""
    masked = text_masker()
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
        **gpu_facts(),
        "cuda": getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None),
        "seeds": _seeds(),
        "variables": {
            name: masked(value)
            for name, value in sorted(os.environ.items())
            if VARIABLES.fullmatch(name) and not is_secret(name)
        },
    }


def text_masker() -> Callable[[str], str]:
    """A function that takes secrets out of text: the values of this process's secret environment variables, known key
    formats, passwords in URLs, and what is assigned to a name like `password`."""
    values = {value for name, value in os.environ.items() if len(value) >= SHORTEST_SECRET and is_secret(name)}
    known = re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True)))) if values else None

    def masked(text: str) -> str:
        text = known.sub(MASK, text) if known else text
        return ASSIGNED.sub(rf"\1{MASK}", SECRET_VALUE.sub(MASK, text))

    return masked


def is_secret(name: str) -> bool:
    return bool(SECRET_NAME.search(name)) and not NOT_SECRET.search(name)


def _seeds() -> dict[str, int | str | None]:
    """The seeds that were set, where a generator tells: torch always does, NumPy until a number is drawn, Python's
    own never."""
    seeds: dict[str, int | str | None] = {"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED")}
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy.random")
    if (generator := getattr(torch, "default_generator", None)) is not None:
        seeds["torch"] = generator.initial_seed()
    if numpy is not None and (state := numpy.get_state(legacy=False))["bit_generator"] == "MT19937":
        first, second = (int(word) for word in state["state"]["key"][:2])
        # The first step of the generator's seeding by one number.
        if state["state"]["pos"] == 624 and second == (1812433253 * (first ^ first >> 30) + 1) % 2**32:
            seeds["numpy"] = first
    return seeds


def git_diff() -> bytes | None:
    """What differs from the commit, binary files left out and secrets masked; None if nothing does. At most 1 MB."""
    command = ("git", "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
            assert process.stdout is not None
            content = process.stdout.read(LARGEST_DIFF + 1)
            process.kill()
    except OSError:
        return None
    if not content:
        return None
    cut = len(content) > LARGEST_DIFF
    text = text_masker()(content[:LARGEST_DIFF].decode(errors="replace"))
    return (text + ("\n… cut here: the diff is larger than 1 MB\n" if cut else "")).encode()


def mask(arguments: Sequence[str]) -> list[str]:
    """A command line without its secrets: `--api-key X`, `TOKEN=X`, and what `text_masker` finds in the rest, such as
    the value of a secret environment variable that the shell put there."""
    masked: list[str] = []
    hide_next = False
    text = text_masker()
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = is_secret(name)
        if hide_next and not argument.startswith("--"):
            masked.append(MASK)
        elif equals and secret:
            masked.append(f"{name}={MASK}")
        else:
            masked.append(text(argument))
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
    """Installed distributions and their versions. Hundreds of them: a parser of e-mail headers would take 0.2 s."""
    found = {}
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        head = dict(HEADER.findall(text.partition("\n\n")[0]))
        if "Name" in head and "Version" in head:
            found[head["Name"]] = head["Version"]
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
