"""What a line is worth at this moment, in one word and with its reasons.

`starting`: no web has been inspected yet; `inspecting`, or waiting for web; `degraded`: web is inspected, and a person
should look; `blind`: web passes, or may pass, and nobody sees it; `stopped`: in order.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import Literal, get_args

from edge.camera.ring import CameraState
from edge.core.clock import utc_now
from edge.core.types import Alarm, Coverage, Defect, Status
from edge.pipeline.ledger import END, START

State = Literal["starting", "inspecting", "degraded", "blind", "stopped"]
STATES: tuple[State, ...] = get_args(State)

HOLD_S, BLIND_S = 10.0, 2.0
"""How long a trouble that has come and gone counts, and how long the line is blind by it."""
STALL_S = 10.0
"""An inspect loop that does not answer, or a stage that does not end, for so long hangs."""
HEART_S = 45.0
"""A camera process is given 30 s to open its camera, and up to 5 s between one and the next: without a heartbeat for
longer nobody looks after it any more."""
UNUSED_S = 3.0
"""Exposures of which none can be used for so long are as good as none."""
MOST_SHOWN, MOST_CHARACTERS = 3, 100
"""Of the reasons, and of each of them: all of it stands in the alarms."""

_RISING = {
    "lost": "frames are lost on their way",
    "overwritten": "exposures are overwritten before they can be inspected",
    "doubtful": "the light of exposures is in doubt",
    "unusable": "frames arrive that cannot be used",
    "encoder_restarts": "the encoder went back: lengths from there on are estimated",
    "restarts": "the camera process was replaced",
}
"""Counts of `Sight` that should not rise, and what it means where they do."""
_LASTING = ("lamp", "light_", "misregistered", "checksum", "recording_ended", "events_lost")
"""How kinds of alarms begin that are told once and last until somebody has looked; `light_in_doubt` is counted."""
_OVER = {"recording_back": "recording_ended"}
"""Alarms that say that another is over."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What can be seen of a line at `now_s` of the monotonic clock.

    `camera` with its `camera_detail` is what its process says, `heart_s` how long ago it last did; `loop_s`: how long
    ago the inspect loop last answered; `stage_s`: how long the strips under way have waited for a stage to end, 0 where
    there are none. Counts since the start: exposures `written` by the camera; `frames` taken of them; the rest as in
    `LiveCounts` and `FrameCounts`. `troubles`: what else goes wrong at this moment.
    """

    now_s: float
    camera: CameraState
    camera_detail: str
    heart_s: float
    loop_s: float
    stage_s: float
    written: int = 0
    frames: int = 0
    lost: int = 0
    overwritten: int = 0
    doubtful: int = 0
    unusable: int = 0
    encoder_restarts: int = 0
    restarts: int = 0
    troubles: tuple[str, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Whether the line inspects, or would if there were web: what a watchdog is to be told. A camera that is lost
        is looked for; starting the line anew would not bring it back."""
        return self.loop_s < STALL_S and self.stage_s < STALL_S and self.heart_s < HEART_S


@dataclass(frozen=True)
class _Reason:
    """`until_s`: infinite for what lasts, and for what is seen at this moment."""

    state: State
    words: str
    until_s: float = float("inf")

    @property
    def rank(self) -> tuple[bool, float]:
        """Blindness first, then what wants somebody, then what goes by itself."""
        return self.state != "blind", -self.until_s


class Health:
    """The state of a line and why, from what is seen of it (`look`) and what it tells (`hear`); from any thread.

    `detail`: the worst `MOST_SHOWN` reasons, for a person at a glance.
    """

    def __init__(self) -> None:
        self.state: State = "starting"
        self.detail = ""
        self._lock = threading.Lock()
        self._held: dict[str, _Reason] = {}
        self._before: Sight | None = None
        self._used_s = 0.0
        self._begun = False
        self._told: tuple[State, frozenset[str]] | None = None

    def hear(self, body: Defect | Coverage | Alarm, now_s: float) -> None:
        """Take what the line has told."""
        with self._lock:
            if isinstance(body, Coverage):
                self._begun = self._begun or body.state != "uninspected"
                self._cover(body, now_s)
            elif isinstance(body, Alarm) and body.kind.startswith(_LASTING) and body.kind != "light_in_doubt":
                self._held[body.kind] = _Reason("degraded", f"{body.kind}: {body.detail}")
            elif isinstance(body, Alarm) and body.kind in _OVER:
                self._held.pop(_OVER[body.kind], None)

    def look(self, sight: Sight) -> Status | None:
        """The state from now on; a status to be told where it, or what it is for, has changed."""
        with self._lock:
            self._compare(sight)
            reasons = dict(self._standing(sight))
            reasons |= {name: held for name, held in self._held.items() if held.until_s > sight.now_s}
            self._held = {name: held for name, held in self._held.items() if held.until_s > sight.now_s}
            self._begun = self._begun or sight.camera == "no trigger"
            self.state = self._worst(reasons)
            if "unseen" in reasons:
                reasons.pop("was unseen", None)
            worst_first = sorted(reasons, key=lambda name: reasons[name].rank)
            shown, more = worst_first[:MOST_SHOWN], len(worst_first[MOST_SHOWN:])
            words = [shorten(reasons[name].words, MOST_CHARACTERS, placeholder=" …") for name in shown]
            self.detail = "; ".join([*words, f"and {more} more"] if more else words) or _at_rest(sight)
            return self._news(frozenset(shown) | {_at_rest(sight)})

    def stop(self, why: str) -> Status | None:
        """The line has ended."""
        with self._lock:
            self.state, self.detail = "stopped", why
            return self._news(frozenset())

    def _cover(self, coverage: Coverage, now_s: float) -> None:
        if coverage.state == "degraded":
            self._hold("degraded rows", "degraded", f"web {coverage.why}", now_s + HOLD_S)
        elif coverage.state == "uninspected" and coverage.why not in (START, END):
            self._hold("unseen", "blind", f"web passes unseen: {coverage.why}", now_s + BLIND_S)
            self._hold("was unseen", "degraded", f"web has passed unseen: {coverage.why}", now_s + HOLD_S)

    def _compare(self, sight: Sight) -> None:
        """Hold what has risen since the last look."""
        before, self._before = self._before, sight
        if before is None or sight.frames > before.frames or sight.written == before.written:
            self._used_s = sight.now_s
        for name, words in _RISING.items():
            if before is not None and getattr(sight, name) > getattr(before, name):
                self._hold(name, "degraded", words, sight.now_s + HOLD_S)

    def _standing(self, sight: Sight) -> Iterator[tuple[str, _Reason]]:
        """What is wrong at this moment."""

        def blind(words: str) -> _Reason:
            return _Reason("blind", words)

        if sight.loop_s >= STALL_S:
            yield "loop", blind(f"the inspect loop has not answered for {sight.loop_s:.0f} s")
        if sight.stage_s >= STALL_S:
            yield "stage", blind(f"a stage has hung for {sight.stage_s:.0f} s")
        if sight.heart_s >= HEART_S:
            yield "heart", blind(f"the camera process has not been seen for {sight.heart_s:.0f} s")
        if sight.camera in ("device lost", "failed") or (sight.camera == "starting" and self._begun):
            yield (
                "camera",
                blind(f"camera: {sight.camera}" + (f", {sight.camera_detail}" if sight.camera_detail else "")),
            )
        if sight.now_s - self._used_s >= UNUSED_S:
            yield "unused", blind("exposures arrive and none of them can be used")
        for trouble in sight.troubles:
            yield trouble, _Reason("degraded", trouble)

    def _worst(self, reasons: dict[str, _Reason]) -> State:
        states = {reason.state for reason in reasons.values()}
        if "blind" in states:
            return "blind"
        if not self._begun:
            return "starting"
        return "degraded" if states else "inspecting"

    def _hold(self, name: str, state: State, words: str, until_s: float) -> None:
        self._held[name] = _Reason(state, words, until_s)

    def _news(self, reasons: frozenset[str]) -> Status | None:
        """A status, unless the same was told last."""
        now = self.state, reasons
        if now == self._told:
            return None
        self._told = now
        return Status(kind=self.state, since=utc_now(), detail=self.detail)


def _at_rest(sight: Sight) -> str:
    """Said where nothing is wrong."""
    return f"waiting: {sight.camera_detail}" if sight.camera == "no trigger" else ""
