"""Lamps that change while web passes are told before the normals are wrong by much."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.assembly.assembler import Assembler
from edge.core import types
from edge.core.blocks import block_means
from edge.core.faults import Fault, FaultScript
from edge.core.types import Alarm, Frame, Pixels
from edge.pipeline.lamp_watch import LampWatch
from edge.simulation.camera import StrobedCamera
from edge.simulation.faulty import with_faults
from edge.simulation.planting import CLEAN, DENSE, Frequencies
from edge.simulation.web import COARSE, SMOOTH, Coating, RenderedWeb

WEB_MM, ADVANCE_MM, WIDTH_PX = 250.0, 3.2, 512
ROUNDS = 22


@cache
def rendered(frequencies: Frequencies, coating: Coating) -> tuple[StrobedCamera, list[Frame]]:
    camera = StrobedCamera(RenderedWeb(6, WIDTH_PX, frequencies, coating=coating), WEB_MM)
    return camera, [replace(frame, pixels=frame.pixels.copy()) for frame in camera.frames()]


def round_and_round(frames: list[Frame]) -> Iterator[Frame]:
    """Metres of web: the same again and again, each round under the next light first."""
    whole = frames[: len(frames) // 4 * 4]
    for turn in range(ROUNDS):
        for number, frame in enumerate(whole):
            at = turn * len(whole) + number
            yield replace(frame, frame_id=at, encoder_mm=at * ADVANCE_MM).knowing(frame.block_means)


def watched(*faults: Fault, frequencies: Frequencies = CLEAN, coating: Coating = SMOOTH) -> list[Alarm]:
    camera, frames = rendered(frequencies, coating)
    watch = LampWatch(camera.calibration)
    faulty = with_faults(round_and_round(frames), FaultScript(fault=list(faults)))
    return [alarm for frame in faulty for alarm in watch.push(frame)]


def dimmed(light: int, part: float, at_mm: float = 0.0) -> Fault:
    """A lamp that gives only a part of its light."""
    return Fault(kind="dark", at_mm=at_mm, count=1_000_000, light=light, value=part)


@pytest.mark.parametrize("frequencies", [CLEAN, DENSE], ids=["clean", "dense"])
def test_lamps_as_they_were_calibrated_raise_no_alarm(frequencies: Frequencies) -> None:
    assert watched(frequencies=frequencies, coating=Coating()) == []


def test_web_that_flutters_is_no_lamp_that_fails() -> None:
    alarms = watched(coating=COARSE)
    assert "over the 100 mm" not in " ".join(alarm.detail for alarm in alarms)


@pytest.mark.parametrize("light", range(4))
def test_a_lamp_that_has_lost_two_percent_is_named_once(light: int) -> None:
    (alarm,) = watched(dimmed(light, 0.98))
    assert alarm.kind == "lamp_drifts"
    assert f"light {light} gives" in alarm.detail and "less" in alarm.detail


def test_half_a_percent_is_nothing_to_stop_for() -> None:
    assert watched(dimmed(1, 0.995)) == []


def test_a_lamp_that_loses_most_of_its_light_is_named_within_two_hundred_millimetres() -> None:
    (alarm,) = watched(dimmed(2, 0.3, at_mm=1000.0))
    assert alarm.kind == "lamp_drifts" and "light 2 gives" in alarm.detail
    assert 1000 < float(alarm.detail.rsplit("before ", 1)[1].removesuffix(" mm")) < 1205


def test_two_neighbours_that_fade_together_are_seen_though_the_checksum_is_blind_to_it() -> None:
    (alarm,) = watched(dimmed(1, 0.98), dimmed(2, 0.98))
    assert alarm.kind == "lamps_drift"


def test_all_lamps_fading_together_are_seen_by_what_they_gave_at_first() -> None:
    (alarm,) = watched(*(dimmed(light, 0.8, at_mm=960.0) for light in range(4)))
    assert alarm.kind == "lamps_dim"


def test_an_image_is_averaged_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    camera, frames = rendered(CLEAN, SMOOTH)
    averaged: list[Pixels] = []

    def counted(pixels: Pixels) -> NDArray[np.float64]:
        averaged.append(pixels)
        return block_means(pixels)

    monkeypatch.setattr(types, "block_means", counted)
    assembler, watch = Assembler(camera.calibration, 256, camera.web.pitch_mm), LampWatch(camera.calibration)
    for frame in [replace(frame) for frame in frames[:8]]:
        list(assembler.push(frame))
        list(watch.push(frame))
    assert len(averaged) == 8
    half = replace(frame, pixels=frame.pixels // 2)
    assert half.block_means.mean() < 0.6 * frame.block_means.mean()
