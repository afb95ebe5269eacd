"""The strobe plan: what a camera is told so that each light fires on its own exposure.

Either the camera's sequencer steps through the lights, with one set for each (exposure, gain, the user output that
fires it), or an external strobe controller does, counting the camera's triggers. The plan is written feature by
feature, then read back; every set of the sequencer is loaded again and compared.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from edge.camera.features import (
    BEFORE_EXPOSURE,
    EXPOSURE_US,
    GAIN_DB,
    OTHER_TRIGGERS,
    SEQUENCERS,
    TRIGGER_SELECTORS,
    USER_OUTPUTS,
    Names,
    Sequencer,
    Value,
    Write,
)
from edge.core.config import CameraConfig, LightConfig
from edge.core.errors import CameraError

_RELATIVE = 0.02
"""Cameras round exposure and gain to what they can."""
_NEEDS_CONTROLLER = "use an external strobe controller that counts the triggers (strobe = 'controller')"


class Nodes(Protocol):
    """A camera's features by name. Everything but `has` raises CameraError where the camera refuses."""

    def has(self, feature: str) -> bool: ...

    def is_float(self, feature: str) -> bool: ...

    def entries(self, feature: str) -> list[str]: ...

    def read(self, feature: str) -> Value: ...

    def write(self, feature: str, value: Value | None) -> None: ...


@dataclass(frozen=True)
class StrobePlan:
    """`writes` in their order; then each of `sets` is loaded by its first two writes and compared with the others;
    then `end`; `kept` is compared last. `who` steps through the lights."""

    who: str
    writes: tuple[Write, ...]
    sets: tuple[tuple[Write, ...], ...]
    end: tuple[Write, ...]
    kept: tuple[Write, ...]

    def apply(self, nodes: Nodes) -> None:
        """Write it, read it back. Raises CameraError where the camera refuses or keeps something else."""
        set_features(nodes, self.writes)
        for number, (select, load, *held) in enumerate(self.sets):
            set_features(nodes, (select, load))
            _compare(nodes, held, f"set {number} of the sequencer")
        set_features(nodes, self.end)
        _compare(nodes, self.kept, "the camera")

    def __str__(self) -> str:
        return "\n".join([self.who, *map(str, self.writes), *map(str, self.end)])


def strobe_plan(config: CameraConfig, nodes: Nodes) -> StrobePlan:
    """The plan for a camera. Raises CameraError saying why it cannot strobe these lights, and what could."""
    common = [*_sequencers_off(nodes), *_trigger(config, nodes), *_exposure_modes(nodes)]
    if config.strobe == "controller":
        first = config.lights[0]
        if any((light.exposure_us, light.gain_db) != (first.exposure_us, first.gain_db) for light in config.lights):
            raise CameraError("camera.lights: with an external strobe controller all need the same exposure and gain")
        who = f"an external controller counts triggers and fires {len(config.lights)} lights in turn"
        writes = [*common, *_light(first, nodes)]
        return StrobePlan(who, tuple(writes), (), (), _last(writes))
    return _sequenced(config, nodes, common)


def _sequenced(config: CameraConfig, nodes: Nodes, common: list[Write]) -> StrobePlan:
    sequencer = _sequencer(nodes)
    lights = config.lights
    writes = [*common, *_known(sequencer.begin, nodes), *_stored(sequencer, lights, nodes)]
    if sequencer.count is not None:
        writes.append(Write(sequencer.count, len(lights)))
    sets = []
    for number, light in enumerate(lights):
        select = Write(sequencer.select, number)
        held = [*_light(light, nodes), Write(USER_OUTPUTS, 1 << _output(number, light))]
        if sequencer.following is not None:
            held.append(Write(sequencer.following, (number + 1) % len(lights)))
        steps = [*_known(sequencer.every_set, nodes), *_advance(sequencer, nodes), *held]
        writes += [select, *steps, Write(sequencer.save)]
        sets.append((select, Write(sequencer.load), *held))
    who = f"the camera's sequencer steps through {len(lights)} lights"
    end = _known(sequencer.end, nodes)
    return StrobePlan(who, tuple(writes), tuple(sets), tuple(end), _last([*common, *end]))


def _sequencer(nodes: Nodes) -> Sequencer:
    for sequencer in SEQUENCERS:
        if nodes.has(sequencer.select):
            if not (sequencer.holds_outputs and nodes.has(USER_OUTPUTS) and _can_store_outputs(sequencer, nodes)):
                raise CameraError(
                    f"this camera's sequencer does not switch outputs from set to set: {_NEEDS_CONTROLLER}"
                )
            return sequencer
    raise CameraError(f"this camera has no sequencer: {_NEEDS_CONTROLLER}")


def _sequencers_off(nodes: Nodes) -> list[Write]:
    """First of all: a sequencer that runs locks what it steers."""
    return [sequencer.begin[0] for sequencer in SEQUENCERS if nodes.has(sequencer.begin[0].feature)]


def _can_store_outputs(sequencer: Sequencer, nodes: Nodes) -> bool:
    if sequencer.stored is None or not nodes.has(sequencer.stored[0]):
        return True  # it does not say what its sets hold: loading them again will tell
    return USER_OUTPUTS in nodes.entries(sequencer.stored[0])


def _stored(sequencer: Sequencer, lights: list[LightConfig], nodes: Nodes) -> list[Write]:
    """Which features the sets are to hold."""
    if sequencer.stored is None or not nodes.has(sequencer.stored[0]):
        return []
    selector, switch = sequencer.stored
    wanted = [USER_OUTPUTS, *(write.feature for write in _light(lights[0], nodes))]
    holds = [feature for feature in wanted if feature in nodes.entries(selector)]
    return [write for feature in holds for write in (Write(selector, feature), Write(switch, True))]


def _advance(sequencer: Sequencer, nodes: Nodes) -> list[Write]:
    if sequencer.advance is None:
        return []
    return [Write(sequencer.advance, _one_of(sequencer.advance_on, sequencer.advance, nodes))]


def _output(number: int, light: LightConfig) -> int:
    return number if light.output is None else light.output


def _trigger(config: CameraConfig, nodes: Nodes) -> list[Write]:
    """The exposure's own trigger on, all others off."""
    _first_of(("TriggerMode",), nodes, "trigger")
    writes = []
    if nodes.has("TriggerSelector"):
        offered = nodes.entries("TriggerSelector")
        for other in OTHER_TRIGGERS:
            if other in offered:
                writes += [Write("TriggerSelector", other), Write("TriggerMode", "Off")]
        writes.append(Write("TriggerSelector", _one_of(TRIGGER_SELECTORS, "TriggerSelector", nodes)))
    source = _one_of((config.trigger,), "TriggerSource", nodes)
    return [*writes, Write("TriggerSource", source), Write("TriggerMode", "On")]


def _exposure_modes(nodes: Nodes) -> list[Write]:
    return [write for write in _known(BEFORE_EXPOSURE, nodes) if write.value in nodes.entries(write.feature)]


def _light(light: LightConfig, nodes: Nodes) -> list[Write]:
    """Exposure and gain of a light. A camera without gain in decibels can do 0 dB."""
    writes = [Write(_first_of(EXPOSURE_US, nodes, "exposure time"), light.exposure_us)]
    in_db = tuple(name for name in GAIN_DB if nodes.has(name) and nodes.is_float(name))
    if in_db:
        writes.append(Write(in_db[0], light.gain_db))
    elif light.gain_db:
        raise CameraError("this camera lets nobody set its gain in dB: set gain_db = 0 for every light")
    return writes


def _known(writes: tuple[Write, ...], nodes: Nodes) -> list[Write]:
    return [write for write in writes if nodes.has(write.feature)]


def _first_of(names: Names, nodes: Nodes, what: str) -> str:
    for name in names:
        if nodes.has(name):
            return name
    raise CameraError(f"this camera lets nobody set its {what} ({' or '.join(names)} is missing)")


def _one_of(wanted: Names, feature: str, nodes: Nodes) -> str:
    offered = nodes.entries(feature)
    for entry in wanted:
        if entry in offered:
            return entry
    raise CameraError(f"{feature} of this camera cannot be {' or '.join(wanted)}: it knows {', '.join(offered)}")


def _last(writes: list[Write]) -> tuple[Write, ...]:
    """Of each feature the value it is left with."""
    return tuple({write.feature: write for write in writes}.values())


def set_features(nodes: Nodes, writes: Iterable[Write]) -> None:
    """What is as it should be is left alone: cameras lock features that have but one value."""
    for write in writes:
        if write.value is None or not _same(write.value, nodes.read(write.feature)):
            nodes.write(write.feature, write.value)


def _compare(nodes: Nodes, expected: Iterable[Write], where: str) -> None:
    for step in expected:
        if step.value is None:
            continue
        kept = nodes.read(step.feature)
        if not _same(step.value, kept):
            wanted = f"{step.feature} = {step.value}"
            hint = f": {_NEEDS_CONTROLLER}" if step.feature == USER_OUTPUTS else ""
            raise CameraError(f"{where} was told {wanted} and has {kept}{hint}")


def _same(wanted: Value, kept: Value) -> bool:
    if isinstance(wanted, float) and isinstance(kept, float | int):
        return math.isclose(wanted, kept, rel_tol=_RELATIVE, abs_tol=_RELATIVE)
    return wanted == kept
