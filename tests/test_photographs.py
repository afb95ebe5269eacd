"""Real photographs through import and replay. Needs the folder of data that FOILSIGHT_DATA names."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from scipy.io import loadmat

DATA = os.environ.get("FOILSIGHT_DATA")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(DATA is None, reason="FOILSIGHT_DATA is not set: no real photographs here"),
]


@pytest.fixture
def ball() -> Path:
    assert DATA is not None
    return Path(DATA) / "diligent_ball"


def lights_file(ball: Path, numbers: list[int], out: Path) -> Path:
    directions = np.loadtxt(ball / "light_directions.txt")
    intensities = np.loadtxt(ball / "light_intensities.txt")
    entries = [
        f"[[light]]\ndirection = {directions[n - 1].tolist()}\nintensity = {intensities[n - 1].tolist()}\n"
        f'files = "{n:03d}.png"\n'
        for n in numbers
    ]
    out.write_text("\n".join(entries))
    return out


@pytest.mark.parametrize(
    ("numbers", "expected_deg", "tolerance_deg"),
    [([80, 32, 25, 73], 3.49, 0.03), (list(range(1, 97)), 4.10, 0.02)],
    ids=["four lights", "all 96 lights"],
)
def test_diligent_ball(
    ball: Path,
    tmp_path: Path,
    foilsight: Foilsight,
    numbers: list[int],
    expected_deg: float,
    tolerance_deg: float,
) -> None:
    """The published least-squares baseline of the benchmark (Shi et al. 2016) is 4.10 degrees; that of the four lights,
    4.52, falls where one of them that misled a pixel is left out."""
    lights = lights_file(ball, numbers, tmp_path / "lights.toml")
    recording, report = tmp_path / "ball.mcap", tmp_path / "report"
    done = foilsight("import", ball, recording, "--lights", lights)
    assert done.returncode == 0, done.stderr
    done = foilsight("replay", recording, "--report", report, "--keep", "surface", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == len(numbers)
    normals = np.load(report / "normals.npy")
    truth = loadmat(ball / "Normal_gt.mat")["Normal_gt"].transpose(2, 0, 1)
    mask = cv2.imread(str(ball / "mask.png"), cv2.IMREAD_GRAYSCALE) > 0
    error = np.degrees(np.arccos(np.clip((normals * truth).sum(axis=0), -1, 1)))[mask].mean()
    assert error == pytest.approx(expected_deg, abs=tolerance_deg)
