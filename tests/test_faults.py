"""Each scripted fault ends in exactly the ledger entries it caused, and in no event made of mixed frames."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.config import Config, EventsConfig
from edge.core.errors import ConfigError
from edge.core.faults import Fault, FaultScript, load_faults
from edge.core.light_witness import LightWitness
from edge.core.types import Frame
from edge.service.replay import ReplayOptions, replay
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.faulty import with_faults
from edge.simulation.optics import REAL
from edge.simulation.planting import CLEAN, DENSE
from edge.simulation.web import COARSE, RenderedWeb

CAMERA = StrobedCamera(RenderedWeb(61, 512, CLEAN), 80.0, Rig(), Motion(64.0))
"""At an advance of a quarter frame every lost frame shows: it degrades the 256 rows its light alone saw."""


@dataclass
class Faulty:
    """A rendered web as a script leaves it."""

    script: FaultScript
    camera: StrobedCamera = CAMERA
    web_mm: float | None = None

    @property
    def calibration(self) -> Calibration:
        return self.camera.calibration

    def frames(self) -> Any:
        return with_faults(self.camera.frames(), self.script)


def counts_of(*faults: Fault) -> tuple[Assembler, list[int]]:
    """The assembler after the faulty web, and the lights' bit mask of every row."""
    source = Faulty(FaultScript(fault=list(faults)))
    assembler = Assembler(source.calibration, 256, 0.05)
    strips = [strip for frame in source.frames() for strip in assembler.push(frame)]
    strips += list(assembler.finish())
    return assembler, [int(mask) for strip in strips for mask in strip.lights_seen[:, 0]]


def degraded(masks: list[int]) -> list[int]:
    """Rows inside the roll that were not seen under all four lights."""
    return [row for row in range(256, len(masks) - 256) if masks[row] != 15]


def test_no_fault_changes_nothing() -> None:
    assembler, masks = counts_of()
    assert degraded(masks) == []
    assert assembler.counts.unusable == assembler.counts.lost == assembler.counts.repeated == 0


@pytest.mark.parametrize("kind", ["lost", "incomplete", "dark"])
def test_a_frame_that_cannot_be_used_degrades_its_rows_only(kind: Any) -> None:
    assembler, masks = counts_of(Fault(kind=kind, at_frame=10))
    rows = degraded(masks)
    assert rows == list(range(10 * 64, 10 * 64 + 256))
    assert {masks[row] for row in rows} == {15 & ~(1 << 10 % 4)}
    name = {"lost": "lost", "incomplete": "incomplete", "dark": "dark"}[kind]
    assert getattr(assembler.counts, name) == 1


def test_a_repeated_frame_changes_nothing() -> None:
    assembler, masks = counts_of(Fault(kind="repeated", at_frame=9, count=5))
    assert degraded(masks) == []
    assert assembler.counts.repeated == 5


def test_swapped_lights_are_never_mixed() -> None:
    """Two frames that claim each other's light are both left out: the checksum alone would not notice every order."""
    assembler, masks = counts_of(Fault(kind="swapped", at_frame=12))
    assert assembler.counts.other_light == 2
    assert degraded(masks) == list(range(12 * 64, 13 * 64 + 256))


def test_a_dying_lamp_is_noticed_and_named(tmp_path: Path) -> None:
    events = replayed(tmp_path, Fault(kind="dark", at_mm=20.0, count=4, light=2))
    (alarm,) = [event["body"] for event in events if event["topic"] == "alarm"]
    assert alarm["kind"] == "dark" and "light 2" in alarm["detail"]
    why = {event["body"]["why"] for event in events if event["topic"] == "coverage"}
    assert "not seen under light 2" in why


def test_each_of_two_lamps_that_fail_is_named(tmp_path: Path) -> None:
    faults = [Fault(kind="dark", at_mm=at_mm, count=4, light=light) for at_mm, light in ((10.0, 2), (30.0, 0))]
    alarms = [event["body"] for event in replayed(tmp_path, *faults) if event["topic"] == "alarm"]
    assert [alarm["detail"].split("of light ")[1][0] for alarm in alarms if alarm["kind"] == "dark"] == ["2", "0"]


def test_an_encoder_jump_ahead_is_web_not_seen() -> None:
    _, masks = counts_of(Fault(kind="encoder_jump", at_frame=15, value=40.0))
    plain = counts_of()[1]
    assert len(masks) == len(plain) + 800
    assert sum(mask == 0 for mask in masks) >= 800 - 256


def test_an_encoder_that_starts_anew_loses_no_web() -> None:
    assembler, masks = counts_of(Fault(kind="encoder_jump", at_frame=15, value=-500.0))
    assert assembler.counts.encoder_restarts == 1
    after = masks[14 * 64 + 256 :]
    assert sum(mask == 15 for mask in after) > 200, "web after the restart is inspected again"


def test_encoder_jitter_is_bridged_by_registration() -> None:
    _, masks = counts_of(Fault(kind="encoder_jitter", at_frame=4, count=12, value=0.01))
    assert sum(mask != 15 for mask in masks[256:-256]) < 200


def replayed(folder: Path, *faults: Fault, camera: StrobedCamera = CAMERA) -> list[dict[str, Any]]:
    config = Config(events=EventsConfig(publish="inproc://events", replay="inproc://replay"))
    replay(Faulty(FaultScript(fault=list(faults)), camera), "web", "", config, folder, ReplayOptions(quiet=True))
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


GOLDEN = {
    "lost": [Fault(kind="lost", at_frame=9, count=3)],
    "repeated": [Fault(kind="repeated", at_mm=15.0, count=4)],
    "swapped": [Fault(kind="swapped", at_frame=12), Fault(kind="swapped", at_frame=20)],
    "incomplete": [Fault(kind="incomplete", at_frame=7, count=2)],
    "dark": [Fault(kind="dark", at_mm=10.0, count=6, light=1)],
    "encoder jump": [Fault(kind="encoder_jump", at_mm=20.0, value=13.7)],
    "encoder jitter": [Fault(kind="encoder_jitter", at_frame=0, count=60, value=0.004)],
}


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDEN)
def test_the_same_script_gives_the_same_events(name: str, tmp_path: Path) -> None:
    camera = StrobedCamera(RenderedWeb(62, 256, DENSE), 50.0, Rig(height_px=128), Motion(32.0))

    def timeless(event: dict[str, Any]) -> dict[str, Any]:
        body = {key: value for key, value in event["body"].items() if key != "since"}
        return {key: value for key, value in event.items() if key not in ("time", "stream")} | {"body": body}

    first, again = ([timeless(e) for e in replayed(tmp_path / run, *GOLDEN[name], camera=camera)] for run in "ab")
    assert first == again
    assert any(event["topic"] == "defect" for event in first)


@pytest.mark.parametrize("seed", range(6))
def test_the_witness_knows_every_light(seed: int) -> None:
    """On webs full of defects, coarse and glossy, every frame agrees with its own light and with no other."""
    rig = Rig(optics=REAL)
    camera = StrobedCamera(RenderedWeb(seed, 1024, DENSE, coating=COARSE), 30.0, rig)
    witness = LightWitness(camera.calibration)
    for frame in camera.frames():
        said = [witness.testify(Frame(frame.pixels, k, 0, 0.0, 0, 0.0)) for k in range(4)]
        assert said[frame.light] == "agrees"
        assert said.count("other light") == 3


def test_refusals(tmp_path: Path) -> None:
    script = tmp_path / "f.toml"
    checks: list[tuple[str, Callable[[str], bool]]] = [
        ("[[fault]]\nkind = 'gone'\nat_frame = 1", lambda said: "gone" in said),
        ("[[fault]]\nkind = 'lost'", lambda said: "at_frame or at_mm" in said),
        ("[[fault]]\nkind = 'lost'\nat_frame = -1", lambda said: "at_frame" in said),
        ("[[fault]]\nkind = 'lost'\nat_frame = 1\nlength = 3", lambda said: "length" in said),
        ("fault = 3", lambda said: "fault" in said),
        ("= 3", lambda said: "TOML" in said),
    ]
    for text, named in checks:
        script.write_text(text)
        with pytest.raises(ConfigError) as refused:
            load_faults(script)
        assert named(str(refused.value)) and "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_faults(tmp_path / "none.toml")


def test_dark_needs_no_doubt() -> None:
    camera = StrobedCamera(RenderedWeb(1, 256, CLEAN), 20.0, Rig())
    witness, frame = LightWitness(camera.calibration), next(camera.frames())
    for part, said in ((0.5, "agrees"), (0.0, "dark")):
        dimmed = (frame.pixels * part).astype(np.uint8)
        assert witness.testify(Frame(dimmed, frame.light, 0, 0.0, 0, 0.0)) == said
