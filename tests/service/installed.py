"""A machine with the service installed on it."""

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import Machine, NoMachine
from wheel import SOURCES, build_wheel

INSTALLER, PACKAGES, WHEELS = "/srv/deploy/install.py", "/srv/packages", "/srv/wheels"
_HIDDEN = ("/home/", "/root/", "/tmp/", "/var/tmp/")
"""The service sees none of these."""

CAMERA = """
line = "tested"
[camera]
device = "simulated"
ring_mb = 32
[camera.simulated]
width_px = 256
length_mm = 40
frames_per_s = 10
repeats = true
[events]
publish = "tcp://127.0.0.1:25570"
replay = "tcp://127.0.0.1:25571"
[service]
metrics_port = 25572
"""
IMPATIENT = """
[Service]
WatchdogSec=4s
TimeoutAbortSec=1s
RestartSec=200ms
"""


def interpreter() -> str:
    """One of this version that the service sees: it uses the packages of the environment that runs the tests.

    Raises NoMachine.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (str(Path(sys.executable).resolve()), "/usr/bin/python3", f"/usr/local/bin/python{version}"):
        if not python.startswith(_HIDDEN) and Path(python).exists():
            ask = "import sys, venv, ensurepip; print(*sys.version_info[:2], sep='.')"
            done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                return python
    raise NoMachine(f"no Python {version} with venv outside {', '.join(_HIDDEN)}, as the service wants it")


class Installed:
    """The machine, and the installer on it."""

    def __init__(self, machine: Machine, python: str) -> None:
        self.machine, self._python = machine, python

    def install(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.machine.result(self._python, INSTALLER, *arguments)

    def install_wheel(self, wheel: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Packages are not downloaded: the release sees those of the tests' own environment, by a .pth file."""
        there = f"{WHEELS}/{wheel.parent.name}/{wheel.name}"
        return self.install(there, "--site-packages", PACKAGES, *arguments)

    def show(self, *names: str) -> dict[str, str]:
        """Properties of the camera's unit."""
        said = self.machine.run("systemctl", "show", "foilsight@cam1", *(f"-p{name}" for name in names))
        return dict(line.split("=", 1) for line in said.splitlines())

    def journal(self, *arguments: str) -> str:
        return self.machine.run("journalctl", "-u", "foilsight@cam1", "--no-pager", *arguments)


@contextmanager
def installed_machine(folder: Path, wheels: Path) -> Iterator[Installed]:
    """Foilsight as its installer leaves it, with the simulated camera as cam1, not started yet. Raises NoMachine."""
    packages = Path(sysconfig.get_paths()["platlib"])
    python = interpreter()
    machine = Machine(folder, {packages: PACKAGES, wheels: WHEELS, SOURCES / "deploy": "/srv/deploy"})
    machine.boot()
    try:
        there = Installed(machine, python)
        done = there.install_wheel(build_wheel(wheels / "first"))
        assert done.returncode == 0, done.stdout
        machine.path("/etc/foilsight/cam1.toml").write_text(CAMERA)
        drop_in = machine.path("/run/systemd/system/foilsight@.service.d/impatient.conf")
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(IMPATIENT)
        machine.run("systemctl", "daemon-reload")
        yield there
    finally:
        machine.off()
