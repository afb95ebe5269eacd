"""Where a line keeps what must outlive it."""

import os
from pathlib import Path

INSTALLED, INSTALLED_STATE = Path("/etc/foilsight"), Path("/var/lib/foilsight")
"""Configurations of the installed services, NAME.toml, and what systemd gives them for their state, NAME."""


def state_folder(line: str) -> Path:
    """Where a service keeps its place and its events: STATE_DIRECTORY as systemd sets it, or under XDG_STATE_HOME."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "foilsight" / line.replace("/", "_")


def state_folder_of(config: Path | None, line: str) -> Path:
    """The state folder of the line of a configuration file, for others than its service: an installed one has that of
    its name, unless STATE_DIRECTORY says otherwise."""
    if config is None or "STATE_DIRECTORY" in os.environ or config.parent.resolve() != INSTALLED:
        return state_folder(line)
    return INSTALLED_STATE / config.stem
