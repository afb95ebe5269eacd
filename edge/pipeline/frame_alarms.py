"""What frames show of the line for the first time: told once, not with every frame."""

from edge.assembly.registrar import Registrar
from edge.core.clock import utc_now
from edge.core.types import Alarm, Frame
from edge.pipeline.lamp_watch import LampWatch

_ALARMS = {
    "incomplete": "frames arrive incomplete",
    "no_position": "frames arrive without an encoder position",
    "dark": "a lamp did not fire: check it, its cable and its strobe output",
    "other_light": "frames are lit by another light than they claim: check whether two lamps are exchanged",
    "encoder_restarts": "the encoder went back by more than a frame: lengths from here on are estimated",
}
"""What a person is told when the count of that name in `FrameCounts` rises for the first time."""
_OF_A_LAMP = ("dark", "other_light")
"""Of these it is told of every lamp."""
_UNUSABLE = ("incomplete", "no_position", "dark", "other_light")
"""A frame with which one of these rises is not used."""


class FrameAlarms:
    """Looks at what a registrar has made of each frame, and hands those it could use to a `LampWatch`."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int | None]] = set()
        self._counted: dict[str, int] = {}

    def push(self, frame: Frame, registrar: Registrar, lamps: LampWatch) -> list[Alarm]:
        """What this frame, the last that was registered, shows for the first time, in troubles of a lamp for the first
        time with this one."""
        counts = {kind: int(getattr(registrar.counts, kind)) for kind in _ALARMS}
        risen = {
            (kind, frame.light if kind in _OF_A_LAMP else None)
            for kind, count in counts.items()
            if count > self._counted.get(kind, 0)
        }
        new = risen - self._told
        self._counted = counts
        self._told |= new
        where = f"first seen at frame {frame.frame_id} of light {frame.light}, {frame.encoder_mm:.1f} mm"
        alarms = [Alarm(kind=kind, since=utc_now(), detail=f"{_ALARMS[kind]}, {where}") for kind, _ in new]
        if not any(kind in _UNUSABLE for kind, _ in risen):
            alarms += lamps.push(frame)
        drift = registrar.encoder_drift
        if drift.is_off and ("misregistered", None) not in self._told:
            self._told.add(("misregistered", None))
            detail = f"{drift.in_words}, seen before {frame.encoder_mm:.1f} mm"
            alarms.append(Alarm(kind="misregistered", since=utc_now(), detail=detail))
        return alarms
