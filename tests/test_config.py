"""The configuration from anywhere: used as it is meant, or refused in one line that names the key."""

from pathlib import Path

import pytest

from edge.core.config import load_config
from edge.core.errors import ConfigError, FoilsightError
from edge.segmentation.model import load_model


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = " + "9" * 5000, "not TOML"),
        ("x = " + "[" * 2000, "not TOML"),
        ('"\\u001b[2J\\n' + "x" * 5000 + '" = 1', "unknown field"),
        ('calibration = "a\\u0000b"', "Expected a path"),
        ('calibration = "a\\nb"', "Expected a path"),
        ('calibration = ""', "Expected a path"),
        (f'calibration = "{"x" * 5000}"', "Expected a path"),
        ("events.heartbeat_s = inf", "heartbeat_s"),
        ("events.heartbeat_s = 5e-324", "heartbeat_s"),
        ("defects.default.min_area_mm2 = inf", "min_area_mm2"),
        ("defects.default.min_area_mm2 = nan", "min_area_mm2"),
        ("#" * 100_000, "more than"),
    ],
)
def test_a_bad_configuration_is_refused_in_one_line_that_names_it(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ")
    assert says in line
    assert ("not TOML" in line) == (says == "not TOML"), "a wrong key is not a wrong file"
    assert line.isprintable()
    assert len(line) < 600


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b'line = "\xff"')
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(path)


def test_a_model_that_is_a_device_is_not_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('segmentation.model = "/dev/zero"')
    with pytest.raises(FoilsightError, match="/dev/zero: cannot be read"):
        load_model(load_config(path).segmentation.model)
