"""What goes wrong in people's hands: one line, and the right exit code."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Foilsight

from edge import cli
from edge.recording.reader import Recording
from edge.service import options

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must end with exit code 2 and one line; gives the line."""

    def run(*arguments: object) -> str:
        code = cli.run_command([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert code == 2, printed.err
        assert printed.err.count("\n") == 1 and printed.err.startswith("foilsight: "), printed.err
        assert printed.out == ""
        return printed.err

    return run


def test_no_such_recording(refused: Refused, tmp_path: Path) -> None:
    assert "none.mcap" in refused("replay", tmp_path / "none.mcap")


def test_not_a_recording(refused: Refused, tmp_path: Path) -> None:
    junk = tmp_path / "junk.mcap"
    junk.write_bytes(os.urandom(4096))
    assert "not a recording" in refused("replay", junk, "--report", tmp_path / "r")
    assert "directory" in refused("replay", tmp_path).lower()


def write_lights(folder: Path, directions: list[list[float]]) -> Path:
    import cv2

    lines = []
    for k, direction in enumerate(directions):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((32, 48), 100 + k, np.uint8))
        lines.append(f'[[light]]\ndirection = {direction}\nfiles = "{k}.png"\n')
    lights = folder / "lights.toml"
    lights.write_text("".join(lines))
    return lights


def test_fewer_than_three_lights(refused: Refused, tmp_path: Path) -> None:
    lights = write_lights(tmp_path, [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert "three" in refused("import", tmp_path, tmp_path / "o.mcap", "--lights", lights)
    assert not (tmp_path / "o.mcap").exists()


def test_collinear_lights(refused: Refused, tmp_path: Path) -> None:
    lights = write_lights(tmp_path, [[1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [0.5, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert "one plane" in refused("import", tmp_path, tmp_path / "o.mcap", "--lights", lights)
    assert not (tmp_path / "o.mcap").exists()


def test_still_images_come_through_replay(tmp_path: Path, foilsight: Foilsight) -> None:
    lights = write_lights(tmp_path, [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [-1.0, 0.0, 1.0], [0.0, -1.0, 1.0]])
    done = foilsight("import", tmp_path, tmp_path / "o.mcap", "--lights", lights)
    assert done.returncode == 0, done.stderr
    done = foilsight("replay", tmp_path / "o.mcap", "--report", tmp_path / "r", "--json", "--keep", "surface")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["inspected_mm"] == pytest.approx(32 * 0.05)
    assert "pitch" in report["notes"][0]
    assert np.load(tmp_path / "r" / "normals.npy").shape == (3, 32, 48)


def test_calibration_of_another_size(refused: Refused, recording: Path, tmp_path: Path) -> None:
    from edge.simulation.camera import Rig, StrobedCamera
    from edge.simulation.planting import CLEAN
    from edge.simulation.web import RenderedWeb

    other = StrobedCamera(RenderedWeb(1, 640, CLEAN), 20.0, Rig()).calibration
    other.save(tmp_path / "other.zip")
    (tmp_path / "c.toml").write_text('calibration = "other.zip"\n')
    line = refused("replay", recording, "--config", tmp_path / "c.toml", "--report", tmp_path / "r", "--json")
    assert "640 x 256" in line and "512 x 256" in line


def test_damaged_calibration(refused: Refused, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(Recording(recording).calibration.to_bytes()[:2000])
    (tmp_path / "c.toml").write_text('calibration = "bad.zip"\n')
    assert "not a calibration" in refused("replay", recording, "--config", tmp_path / "c.toml")


def test_model_of_other_channels(refused: Refused, recording: Path, tmp_path: Path) -> None:
    from edge.segmentation.model import SHIPPED_MODEL

    other = SHIPPED_MODEL.read_bytes().replace(b'"albedo"', b'"height"')
    (tmp_path / "other.onnx").write_bytes(other)
    (tmp_path / "c.toml").write_text('[segmentation]\nmodel = "other.onnx"\n')
    line = refused("replay", recording, "--config", tmp_path / "c.toml")
    assert "height" in line and "channel" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[events]\npublsh = 'tcp://127.0.0.1:1'", "publsh"),
        ("[assembly]\nstrip_rows = 17", "$.assembly.strip_rows"),
        ("[assembly]\nstrip_rows = 'many'", "$.assembly.strip_rows"),
        ("[defects.classes.crack]\nmin_area_mm2 = -1", "min_area_mm2"),
        ("strip_rows = ", "not TOML"),
    ],
)
def test_bad_configuration(refused: Refused, recording: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    assert said in refused("replay", recording, "--config", tmp_path / "c.toml")


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "--rate", "fast"),
        ("replay", "--keep", "everything"),
        ("replay", "--colour", "red"),
        ("inspect",),
        ("simulate", "out.mcap", "--length-mm", "1"),
        ("simulate", "out.mcap", "--length-mm", "100", "--speed", "0"),
        ("simulate", "out.mcap"),
        ("evaluate",),
    ],
)
def test_bad_arguments(refused: Refused, arguments: tuple[str, ...]) -> None:
    refused(*arguments)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--length-mm", 12.7, "at least the 12.8 mm a frame shows"),
        ("--width-px", 8, "between 16 and 16384"),
        ("--height-px", 4, "between 8 and 4096"),
        ("--advance-px", 257, "above 0 and at most the frame's height"),
        ("--seed", -1, "0 or more"),
        ("--speed", "1:2:3", "metres per second"),
        ("--stains-per-m2", -1, "0 or more"),
    ],
)
def test_simulate_says_what_an_option_must_be(
    refused: Refused, tmp_path: Path, option: str, value: object, said: str
) -> None:
    length = () if option == "--length-mm" else ("--length-mm", 20)
    line = refused("simulate", tmp_path / "o.mcap", *length, f"{option}={value}")
    assert option in line and said in line
    assert not (tmp_path / "o.mcap").exists()


def test_evaluate_needs_truth(refused: Refused, tmp_path: Path) -> None:
    from edge.recording.stills import import_images

    lights = write_lights(tmp_path, [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [-1.0, 0.0, 1.0]])
    import_images(tmp_path, lights, tmp_path / "o.mcap")
    assert "truth" in refused("evaluate", tmp_path / "o.mcap")


def test_simulate_does_not_overwrite(refused: Refused, recording: Path) -> None:
    before = recording.stat().st_size
    assert "exists" in refused("simulate", recording, "--length-mm", 20)
    assert recording.stat().st_size == before


def test_a_fault_of_ours_is_three(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_path: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(options, "load_config", broken)
    assert cli.run_command(["replay"]) == 3
    assert "fault of Foilsight" in capsys.readouterr().err


def test_schema_and_help_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Foilsight events"
    assert cli.run_command(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in (
        "replay",
        "simulate",
        "import",
        "recover",
        "evaluate",
        "listen",
        "schema",
        "train",
        "export",
        "quantise",
    ):
        assert command in shown
