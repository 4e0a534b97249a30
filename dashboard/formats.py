"""Numbers as a person reads them: sensible digits, units, a true minus sign. Pure."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"
# Metrics that are shares of something: shown in percent, their differences in points. The service's sentences have the
# same rule for its own metrics; whatever else users log keeps its unit.
SHARES = re.compile(
    r"((balanced|subset|top_k)_)?accuracy|exact_match|token_f1|pass_at_k|(multilabel_)?(f1|precision|recall)"
    r"_(macro|micro|weighted|binary|samples)|human_(good|wins)(_mean)?|human_win_rate"
    r"|satisfaction|rating_rate|task_success|error_rate|fallback_rate"
)
SECONDS_PREFIXES = ("latency", "first_token")
DOLLARS_PREFIX = "cost"


def is_share(metric: str) -> bool:
    return SHARES.fullmatch(metric.partition(":")[0]) is not None


def number(value: float | str | None, digits: int = 4) -> str:
    """`digits` significant digits; thousands are grouped. A name such as NaN stays as it is."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    if abs(value) >= 10_000 or (abs(value) >= 1000 and float(value).is_integer()):
        return _minus(f"{value:,.0f}")
    return _minus(f"{value:.{digits}g}")


def count(value: float | None) -> str:
    """1,234 as it is, from a million on 2.20 M."""
    if value is None:
        return NONE
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else _minus(f"{value * 100:.{digits}f} %")


def signed(value: float | None, digits: int = 3) -> str:
    if value is None:
        return NONE
    return ("+" if value > 0 else "") + number(value, digits)


def points(value: float | None, digits: int = 1) -> str:
    """A difference of shares, in percentage points: +2.1 points."""
    if value is None:
        return NONE
    shown = round(value * 100, digits)
    return ("+" if shown > 0 else "") + _minus(f"{shown:.{digits}f}") + " points"


def relative(value: float | None) -> str:
    """A lift as a share of the control's value: +150 %, −3.2 %."""
    if value is None:
        return NONE
    percent_of = value * 100
    return _minus(f"{percent_of:+,.0f} %" if abs(percent_of) >= 10 else f"{percent_of:+.1f} %")


def measured(metric: str, value: float | None) -> str:
    """A metric's value in its own unit."""
    if is_share(metric):
        return percent(value)
    if metric.startswith(SECONDS_PREFIXES):
        return duration(value)
    return dollars(value) if metric.startswith(DOLLARS_PREFIX) else number(value)


def change(metric: str, value: float | None) -> str:
    """A difference of a metric in its own unit, signed."""
    if value is None:
        return NONE
    if is_share(metric):
        return points(value)
    if metric.startswith(SECONDS_PREFIXES):
        return ("−" if value < 0 else "+") + duration(abs(value))
    if metric.startswith(DOLLARS_PREFIX):
        return ("−" if value < 0 else "+") + dollars(abs(value))
    return signed(value)


def dollars(value: float | None) -> str:
    """USD of one call as USD of a thousand, three digits that count: $0.0410."""
    if value is None:
        return NONE
    of_thousand = value * 1000
    digits = 2 if of_thousand == 0 or abs(of_thousand) >= 1 else 2 - math.floor(math.log10(abs(of_thousand)))
    return f"${of_thousand:,.{digits}f}"


def interval(metric: str, bounds: Sequence[float | None] | None, *, difference: bool = False) -> str:
    """`[92.1 %, 93.7 %]`; of a difference `[+0.9, +3.3]`, its unit being beside it already. No bound is `…`."""
    if bounds is None:
        return NONE
    say = change if difference else measured
    shown = ["…" if bound is None else say(metric, bound).removesuffix(" points") for bound in bounds]
    if difference:
        shown = [text.replace("$", "") for text in shown]
    return f"[{shown[0]}, {shown[1]}]"


def p_value(value: float | None) -> str:
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(n_bytes: float | None) -> str:
    if n_bytes is None:
        return NONE
    value = float(n_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def ago(at: float | None, now: float | None = None) -> str:
    """`3 min ago`: how long since, in one unit."""
    if at is None:
        return NONE
    passed = max(0.0, (time.time() if now is None else now) - at)
    if passed < 5:
        return "just now"
    for seconds, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if passed >= seconds:
            return f"{passed / seconds:.0f} {unit} ago"
    return f"{passed:.0f} s ago"


def short(identifier: str | None, length: int = 10) -> str:
    """The beginning of a hash or id: enough to recognise it."""
    if not identifier:
        return NONE
    return identifier.removeprefix("sha256:")[:length]


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def told_apart(names: Sequence[str]) -> list[str]:
    """Names as they are, of namesakes the later ones with a number: a chart has one row a name."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as `a.b.c` → text, in its own order."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, list | tuple):
            flat[name] = ", ".join(str(entry) for entry in value)
        else:
            flat[name] = NONE if value is None else str(value)
    return flat


def _minus(text: str) -> str:
    return text.replace("-", "−") if text.startswith("-") else text
