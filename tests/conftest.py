"""Rendered webs that several tests share, and the command line as a user meets it."""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.service.simulate import record_rendered
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """A full disk: no file grows beyond a size while the block runs. Not for longer: the test runner writes too."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)


Foilsight = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 mm of dense web, 512 px wide, of a seed never trained on."""
    path = tmp_path_factory.mktemp("recording") / "web.mcap"
    record_rendered(StrobedCamera(RenderedWeb(79, 512, DENSE), 60.0, Rig()), path, quiet=True)
    return path


@pytest.fixture(scope="session")
def foilsight() -> Foilsight:
    """Run the command line in a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from edge.cli import main; main()", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    return run
