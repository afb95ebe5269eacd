"""The driver's door, call by call, through the real bindings: on a pretended driver library, since there is no GPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_every_call_reaches_the_driver_as_it_is_meant(tmp_path: Path) -> None:
    source, library = Path(__file__).with_name("libcuda.c"), tmp_path / "libcuda.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }
    command = [sys.executable, "-m", "gpu.pretended"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all calls taken" in done.stdout
