"""Faults by script: what a plant does to a line, said once for every part that can play it."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.core.errors import ConfigError
from edge.core.toml_file import read_toml

FrameFaultKind = Literal["lost", "repeated", "swapped", "incomplete", "dark", "encoder_jump", "encoder_jitter"]
CameraFaultKind = Literal["late", "wrong_light", "lamp_dying", "trigger_stops", "device_lost", "hang", "crash"]
FaultKind = FrameFaultKind | CameraFaultKind


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, from frame `at_frame` or web position `at_mm` on, over `count` frames (of `light`, where given).

    `lost`, `repeated`, `incomplete` frames; `swapped`: two neighbours each claim the other's light; `dark`: the lamp
    gives `value` of its light; `encoder_jump`: from here on the encoder is off by `value` mm; `encoder_jitter`: it
    scatters by `value` mm (one standard deviation).

    Only a camera can play these: `late`: the frame is delivered `value` s late; `wrong_light`: light number `value`
    fires instead; `lamp_dying`: the lamp loses the part `value` of its light with every frame of its own;
    `trigger_stops` and `device_lost`: no exposure, or no device, for `value` s; `hang`: every buffer comes incomplete
    for `value` s; `crash`: the producer takes its process down.
    """

    kind: FaultKind
    at_frame: Annotated[int, Meta(ge=0)] | None = None
    at_mm: float | None = None
    count: Annotated[int, Meta(ge=1)] = 1
    light: Annotated[int, Meta(ge=0)] | None = None
    value: float = 0.0

    def __post_init__(self) -> None:
        if (self.at_frame is None) == (self.at_mm is None):
            raise ValueError("a fault begins either at_frame or at_mm")


class FaultScript(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults in any order. The same script does the same on every run."""

    fault: list[Fault] = []


def load_faults(path: Path) -> FaultScript:
    """Read a fault script (TOML, `[[fault]]`). Raises ConfigError."""
    return read_toml(path, FaultScript, ConfigError)
