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
FOILSIGHT = "/usr/local/bin/foilsight"
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
[mqtt]
host = "127.0.0.1"
port = 25573
"""
UNITS = {
    "foilsight@": ("", "realtime", "gige", "usb3", "gpu", "listeners", "keys", "record"),
    "foilsight-bridge@": ("", "broker", "keys"),
}
"""Units of a camera, each with what may be dropped into it."""
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

    def show(self, *names: str, unit: str = "foilsight@cam1") -> dict[str, str]:
        """Properties of a unit."""
        said = self.machine.run("systemctl", "show", unit, *(f"-p{name}" for name in names))
        return dict(line.split("=", 1) for line in said.splitlines())

    def drop_in(self, unit: str, name: str, text: str) -> None:
        """Change a unit; systemd has to be told."""
        path = self.machine.path(f"/run/systemd/system/{unit}.service.d/{name}.conf")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def journal(self, *arguments: str) -> str:
        return self.machine.run("journalctl", "-u", "foilsight@cam1", "--no-pager", *arguments)


@contextmanager
def installed_machine(folder: Path, wheels: Path) -> Iterator[Installed]:
    """Foilsight as its installer leaves it, with the simulated camera as cam1 that is heard with keys only, not started
    yet. Raises NoMachine."""
    packages = Path(sysconfig.get_paths()["platlib"])
    python = interpreter()
    machine = Machine(folder, {packages: PACKAGES, wheels: WHEELS, SOURCES / "deploy": "/srv/deploy"})
    machine.boot()
    try:
        there = Installed(machine, python)
        done = there.install_wheel(build_wheel(wheels / "first"))
        assert done.returncode == 0, done.stdout
        machine.path("/etc/foilsight/cam1.toml").write_text(CAMERA)
        machine.run(FOILSIGHT, "keys", "make", "/etc/foilsight/cam1.key")
        there.drop_in("foilsight@", "impatient", IMPATIENT)
        for unit in UNITS:
            there.drop_in(unit, "keys", (SOURCES / "deploy/drop-ins/keys.conf").read_text())
        machine.run("systemctl", "daemon-reload")
        yield there
    finally:
        machine.off()
