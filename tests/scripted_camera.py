"""A camera that does what a script says, in whatever process it is opened. It imports little, to start fast."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.camera.shot import UNKNOWN, Shot
from edge.core.config import CameraConfig
from edge.core.errors import CameraError
from edge.core.types import Pixels

FIRST_GREY = 100
COUNTS_PER_S = 10_000


@dataclass(frozen=True)
class Script:
    """What goes wrong, `at_frame` of the camera as it counts since it was opened, for `seconds`; only once in the life
    of `folder`, or with every camera that is opened. `incomplete`, `doubtful`: frames whose number divides by it."""

    folder: Path
    fps: float = 200.0
    fault: str = ""
    at_frame: int = 0
    seconds: float = 0.0
    every_time: bool = False
    incomplete: int = 0
    doubtful: int = 0
    ids_again: int = 0
    mute: bool = False


class ScriptedCamera:
    """Counts frames from 0 whenever it is opened; an encoder that never stops, light k on every n-th frame."""

    def __init__(self, config: CameraConfig, script: Script) -> None:
        self.underruns = 0
        self.connected = True
        self._lights = len(config.lights)
        self._script = script
        self._id = 0
        self._due_s = 0.0
        self._first_id = script.ids_again if self._played.exists() else 0

    def __enter__(self) -> "ScriptedCamera":
        if self._plays("no camera"):
            raise CameraError('no camera "scripted"; found: none')
        return self

    def __exit__(self, *_: Any) -> None:
        (self._script.folder / "closed").touch()

    def start(self) -> None:
        self._due_s = time.monotonic()

    def next_into(self, out: Pixels, deadline_s: float) -> Shot | None:
        self._misbehave(out)
        now_s = time.monotonic()
        silent_s = self._due_s - now_s
        time.sleep(max(0.0, min(deadline_s, silent_s)))
        self.connected = self.connected or silent_s <= deadline_s
        if silent_s > deadline_s:
            return None
        number, self._id, self._due_s = self._id, self._id + 1, self._due_s + 1 / self._script.fps
        out[:] = FIRST_GREY + number % 100
        light, now_ns = number % self._lights, time.monotonic_ns()
        doubtful = _divides(self._script.doubtful, number)
        told = not self._script.mute
        return Shot(
            out,
            self._first_id + number,
            now_ns,
            now_ns * COUNTS_PER_S // 10**9,
            exposure_us=12.5,
            active_set=light if told else UNKNOWN,
            line_status=1 << (light + doubtful) % self._lights if told else UNKNOWN,
            complete=not _divides(self._script.incomplete, number),
        )

    def _misbehave(self, out: Pixels) -> None:
        seconds = self._script.seconds
        if self._plays("raise"):
            raise CameraError("the scripted camera has had enough")
        if self._plays("crash"):
            out[: len(out) // 2] = 7
            os.abort()
        if self._plays("fault of ours"):
            raise ZeroDivisionError("division by zero")
        if self._plays("hang"):
            time.sleep(seconds)
        if self._plays("silent"):
            self._due_s += seconds
        if self._plays("lost"):
            self._due_s, self._id, self.connected = self._due_s + seconds, 0, False
            self._first_id = self._script.ids_again

    def _plays(self, fault: str) -> bool:
        script = self._script
        if script.fault != fault or self._id < script.at_frame:
            return False
        if self._played.exists() and not script.every_time:
            return False
        self._played.touch()
        return True

    @property
    def _played(self) -> Path:
        return self._script.folder / "played"


def _divides(divisor: int, number: int) -> bool:
    return divisor > 0 and number % divisor == 0
