"""A run's config: a mapping whose changes are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from tunescope._exceptions import TunescopeError
from tunescope._values import to_plain

__all__ = ["Config", "mapping"]


class Config(MutableMapping[str, Any]):
    """The run's config. A change is recorded: `run.config["lr"] = 1e-4`, `run.config.update(...)`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self.changed: Callable[[dict[str, Any]], None] = _nothing_changed

    def replace(self, values: Mapping[str, Any]) -> None:
        """Take over what the service says; that is no change."""
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        raise TypeError("What a run's config said cannot be taken back; set another value.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Config({self._values!r})"

    def update(self, *others: Any, **values: Any) -> None:
        """Set several values at once; inner dictionaries are merged."""
        changes = mapping(dict(*others, **values))
        _merge(self._values, changes)
        self.changed(changes)


def mapping(config: Any) -> dict[str, Any]:
    """A config as a dictionary of JSON's terms. Raises `TunescopeError` for what is none."""
    plain = to_plain({} if config is None else config)
    if not isinstance(plain, dict):
        raise TunescopeError(f"config is a dictionary, a dataclass or a namespace, not {type(config).__name__}.")
    return plain


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        held = into.get(key)
        if isinstance(held, dict) and isinstance(value, dict):
            _merge(held, value)
        else:
            into[key] = value


def _nothing_changed(changes: dict[str, Any]) -> None:
    """Until the run exists, its config is only being filled."""
