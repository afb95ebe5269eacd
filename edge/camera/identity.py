"""Which light a shot was lit by, from everything that can testify.

What the camera says comes first: the active set of its sequencer or, without that, its frame id counted from a known
start (ids count lost frames, so a loss shifts nothing). Two witnesses check it: the outputs that were on during the
exposure, where the camera tells, and the shape of the image's brightness against the stored flat fields. A shot whose
witnesses disagree is never used.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge.camera.shot import UNKNOWN, Shot
from edge.core.calibration import Calibration
from edge.core.config import LightConfig
from edge.core.light_witness import LightWitness

Doubt = Literal["unknown set", "output of another light", "image of another light", "phase in doubt"]


@dataclass(frozen=True, slots=True)
class Lit:
    """`light` as claimed; with a `doubt` the shot must not be used."""

    light: int
    doubt: Doubt | None = None


class LightIdentity:
    """Names the light of each shot, in the order in which shots were exposed.

    `lights` as configured: their outputs are the bits of `Shot.line_status`. `first_id`: the frame id of the
    sequence's first exposure; None takes the first shot's, and that of the first after a device started anew. Where
    only the id says the light, one whole set of images in a row that all tell of the same shift corrects it: so many
    shots are lost to a wrong start.

    `doubts` counts refused shots by reason; `resynchronised` how often the shift was corrected; `seen[k]` the light
    whose image was last seen where light k was claimed: another order than 0, 1, 2, .. is that of the wires.
    """

    def __init__(self, calibration: Calibration, lights: Sequence[LightConfig], first_id: int | None = None) -> None:
        self.doubts: Counter[Doubt] = Counter()
        self.resynchronised = 0
        self.seen: list[int | None] = [None] * calibration.lights
        self._lights = calibration.lights
        self._witness = LightWitness(calibration)
        outputs = [number if light.output is None else light.output for number, light in enumerate(lights)]
        self._light_of_outputs = {1 << output: number for number, output in enumerate(outputs)}
        self._outputs = sum(self._light_of_outputs)
        self._first_id = first_id
        self._light_of_id_0: int | None = None
        self._last_id = -1
        self._shift, self._agreeing = 0, 0

    def recalibrate(self, calibration: Calibration) -> None:
        """Witness images by another calibration from now on."""
        self._witness = LightWitness(calibration)

    def identify(self, shot: Shot) -> Lit:
        """The light of the next shot. An incomplete image is no witness."""
        claimed = self._claimed(shot)
        lit = Lit(claimed, "unknown set") if claimed >= self._lights else self._checked(shot, claimed)
        if lit.doubt is not None:
            self.doubts[lit.doubt] += 1
        return lit

    def _claimed(self, shot: Shot) -> int:
        restarted = shot.frame_id < self._last_id
        self._last_id = shot.frame_id
        if shot.active_set != UNKNOWN:
            self._light_of_id_0 = shot.active_set - shot.frame_id
            return shot.active_set
        if self._light_of_id_0 is None or restarted:
            self._light_of_id_0 = -(shot.frame_id if self._first_id is None else self._first_id)
            self._agreeing = 0
        return (shot.frame_id + self._light_of_id_0) % self._lights

    def _checked(self, shot: Shot, claimed: int) -> Lit:
        on = self._light_of_outputs.get(shot.line_status & self._outputs) if shot.line_status != UNKNOWN else None
        if on not in (None, claimed):
            return Lit(claimed, "output of another light")
        witnessed = self._witness.lit_by(shot.block_means) if shot.complete else None
        if witnessed is not None:
            self.seen[claimed] = witnessed
        if shot.active_set != UNKNOWN:
            return Lit(claimed, None if witnessed in (None, claimed) else "image of another light")
        return self._checked_by_image(claimed, witnessed)

    def _checked_by_image(self, claimed: int, witnessed: int | None) -> Lit:
        """Whether the count of frames is still in phase with the lights."""
        if witnessed is None:
            return Lit(claimed, "phase in doubt" if self._agreeing else None)
        shift = (witnessed - claimed) % self._lights
        self._agreeing = 0 if shift == 0 else self._agreeing + 1 if shift == self._shift else 1
        self._shift = shift
        if self._agreeing == self._lights and self._light_of_id_0 is not None:
            self._light_of_id_0 += shift
            self._agreeing = 0
            self.resynchronised += 1
            return Lit(witnessed)
        return Lit(claimed, None if shift == 0 else "image of another light")
