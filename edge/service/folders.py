"""Where a line keeps what must outlive it."""

import os
from pathlib import Path


def state_folder(line: str) -> Path:
    """Where a service keeps its place and its events: STATE_DIRECTORY as systemd sets it, or under XDG_STATE_HOME."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "foilsight" / line.replace("/", "_")
