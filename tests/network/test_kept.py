"""A replay's planes and classes, put right by hand, are data to train on."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight

from calibration.network.datasets.dataset import DatasetError
from calibration.network.datasets.opening import open_dataset
from edge.service.pictures import palette


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, foilsight: Foilsight) -> Path:
    """The report of a short web."""
    folder = tmp_path_factory.mktemp("kept")
    for command in (
        ("simulate", folder / "web.mcap", "--length-mm", "40", "--width-px", "256", "--seed", "3"),
        ("replay", folder / "web.mcap", "--report", folder / "reports" / "one", "--keep", "surface,classes", "--json"),
    ):
        done = foilsight(*command)
        assert done.returncode == 0, done.stderr
    return folder / "reports"


def test_a_report_is_a_web_with_what_was_decided(kept: Path) -> None:
    dataset = open_dataset(str(kept), channels=("normal_x", "albedo", "residual"))
    (sample,) = dataset
    normals = np.load(kept / "one" / "normals.npy")
    np.testing.assert_array_equal(sample.image[0], normals[0])
    assert np.isfinite(sample.image).all()
    assert sample.mask.shape == normals.shape[1:]
    assert sample.mask.max() > 0
    assert dataset.groups == ["one"]


def test_what_a_person_has_painted_counts_however_it_was_saved(kept: Path) -> None:
    path = kept / "one" / "classes.png"
    before, painted = path.read_bytes(), cv2.imread(str(path))
    painted[10:20, 30:50] = palette(5)[3]
    cv2.imwrite(str(path), painted)
    (sample,) = open_dataset(str(kept / "one"))
    path.write_bytes(before)
    (untouched,) = open_dataset(str(kept / "one"))
    assert (sample.mask[10:20, 30:50] == 3).all()
    np.testing.assert_array_equal(sample.mask[20:], untouched.mask[20:])


def test_a_colour_that_is_no_class_is_refused(kept: Path) -> None:
    path = kept / "one" / "classes.png"
    before, painted = path.read_bytes(), cv2.imread(str(path))
    painted[4, 7] = 1, 2, 3
    cv2.imwrite(str(path), painted)
    with pytest.raises(DatasetError, match=r"classes.png.*\(3, 2, 1\)|3, 2, 1"):
        list(open_dataset(str(kept / "one")))
    path.write_bytes(before)
