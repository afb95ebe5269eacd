"""Time as the line knows it: a monotonic clock for distances in time, UTC for people."""

import time
from datetime import UTC, datetime


def monotonic_ns() -> int:
    """Nanoseconds of the monotonic clock that stamps exposures."""
    return time.monotonic_ns()


def utc_now() -> str:
    """UTC in RFC 3339 with microseconds, as it stands in events."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
