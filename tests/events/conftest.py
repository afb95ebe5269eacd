"""Addresses nobody listens at, and an outbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.events import Outbox

from .lines import free_endpoint


@pytest.fixture
def publish() -> str:
    return free_endpoint()


@pytest.fixture
def replay() -> str:
    return free_endpoint()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite") as box:
        yield box
