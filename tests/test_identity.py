"""Which light a shot was lit by: what is said, what is seen, and what happens where the two disagree."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from edge.camera.identity import LightIdentity
from edge.camera.shot import UNKNOWN, Shot
from edge.core.blocks import block_means
from edge.core.calibration import Calibration
from edge.core.config import LightConfig
from edge.core.light_witness import LightWitness
from edge.core.types import Pixels
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.optics import REAL
from edge.simulation.planting import DENSE, PRODUCTION
from edge.simulation.web import COARSE, RenderedWeb

FOUR = [LightConfig()] * 4
ORDERS = list(permutations(range(4)))
Images = list[list[Pixels]]
"""By place on the web, then by light."""


@pytest.fixture(scope="module")
def rendered() -> tuple[Calibration, Images]:
    """Ten places on an ordinary web, each under each light; the last five are full of stains, coarse and glossy."""
    clean = StrobedCamera(RenderedWeb(5, 512, PRODUCTION), 76.8, Rig(optics=REAL))
    stained = replace(clean, web=RenderedWeb(6, 512, replace(DENSE, stains=2000.0), coating=COARSE))
    images: Images = []
    for camera in (clean, stained):
        frames = [frame.pixels for frame in camera.frames()]
        images += [frames[at : at + 4] for at in range(0, 20, 4)]
    return clean.calibration, images


def shots(images: Images, order: Iterable[int] = range(4), first_id: int = 0) -> Iterator[tuple[Shot, int]]:
    """Shots and the light of each, as the lights really fire."""
    frame_id = first_id
    for place in images:
        for light in order:
            yield Shot(place[light], frame_id, 0), light
            frame_id += 1


def unsafe(identity: LightIdentity, stream: Iterable[tuple[Shot, int]]) -> tuple[list[bool], int]:
    """Whether each shot was used, and how many were used for the wrong light."""
    lit = [(identity.identify(shot), light) for shot, light in stream]
    return [said.doubt is None for said, _ in lit], sum(said.doubt is None and said.light != at for said, at in lit)


@pytest.mark.parametrize("with_sets", [True, False], ids=["active set", "frame id"])
def test_ordinary_and_stained_web_passes_undoubted(rendered: tuple[Calibration, Images], with_sets: bool) -> None:
    calibration, images = rendered
    stream = [(replace(shot, active_set=light if with_sets else UNKNOWN), light) for shot, light in shots(images)]
    used, wrong = unsafe(LightIdentity(calibration, FOUR), stream)
    assert (wrong, used) == (0, [True] * 40)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_all_orders_are_told_apart(rendered: tuple[Calibration, Images], order: tuple[int, ...]) -> None:
    """A shift is corrected after one set; any other order is seen, said and never used for the wrong light."""
    calibration, images = rendered
    identity = LightIdentity(calibration, FOUR)
    used, wrong = unsafe(identity, shots(images, order))
    assert wrong == 0
    shift = order[0]
    if order == tuple((k + shift) % 4 for k in range(4)):
        assert used == [shift == 0] * 3 + [True] * 37
        assert identity.resynchronised == (shift != 0)
    else:
        assert tuple(identity.seen) == order
        assert used == [order[at % 4] == at % 4 for at in range(40)]
        assert identity.resynchronised == 0


@pytest.mark.parametrize("order", ORDERS[1:], ids=lambda order: "".join(map(str, order)))
def test_sets_wired_to_other_lights_are_never_used(
    rendered: tuple[Calibration, Images], order: tuple[int, ...]
) -> None:
    calibration, images = rendered
    identity = LightIdentity(calibration, FOUR)
    stream = [(replace(shot, active_set=shot.frame_id % 4), light) for shot, light in shots(images, order)]
    used, wrong = unsafe(identity, stream)
    assert (wrong, identity.resynchronised) == (0, 0)
    assert identity.doubts["image of another light"] == used.count(False) > 0


def aged(light: int, part: float) -> Callable[[Shot, int], Shot]:
    def dim(shot: Shot, lit_by: int) -> Shot:
        return replace(shot, pixels=(shot.pixels * part).astype(np.uint8)) if lit_by == light else shot

    return dim


@pytest.mark.parametrize("light", range(4))
@pytest.mark.parametrize("shift", range(4))
def test_an_aged_lamp_is_still_known(rendered: tuple[Calibration, Images], light: int, shift: int) -> None:
    calibration, images = rendered
    order = [(k + shift) % 4 for k in range(4)]
    stream = [(aged(light, 0.7)(shot, at), at) for shot, at in shots(images, order)]
    used, wrong = unsafe(LightIdentity(calibration, FOUR), stream)
    assert wrong == 0
    assert all(used[3:])


@pytest.mark.parametrize("light", range(4))
def test_a_dead_lamp_does_not_upset_the_count(rendered: tuple[Calibration, Images], light: int) -> None:
    """Its frames are no witnesses; what they are good for the assembler decides."""
    calibration, images = rendered
    identity = LightIdentity(calibration, FOUR)
    lit = [identity.identify(aged(light, 0.03)(shot, at)) for shot, at in shots(images)]
    assert [said.light for said in lit] == [0, 1, 2, 3] * 10
    assert not identity.doubts


@pytest.mark.parametrize("shift", range(1, 4))
def test_a_dead_lamp_and_a_wrong_start_together(rendered: tuple[Calibration, Images], shift: int) -> None:
    """Lit frames tell of the shift; until it is known no dark one passes either."""
    calibration, images = rendered
    order = [(k + shift) % 4 for k in range(4)]
    stream = [(aged(2, 0.03)(shot, at), at) for shot, at in shots(images, order)]
    identity = LightIdentity(calibration, FOUR)
    used, wrong = unsafe(identity, stream[stream[0][1] == 2 :])
    assert wrong == 0
    assert identity.resynchronised == 1
    assert all(used[6:])


@pytest.mark.parametrize("lost", range(1, 8))
def test_lost_frames_shift_nothing(rendered: tuple[Calibration, Images], lost: int) -> None:
    calibration, images = rendered
    stream = list(shots(images))
    used, wrong = unsafe(LightIdentity(calibration, FOUR), stream[:9] + stream[9 + lost :])
    assert wrong == 0
    assert all(used)


def test_a_trigger_missed_by_the_camera_costs_one_set(rendered: tuple[Calibration, Images]) -> None:
    """The lights go on, the ids do not: every id after it is of another light than before."""
    calibration, images = rendered
    stream = list(shots(images))
    slipped = [(replace(shot, frame_id=shot.frame_id - 1), light) for shot, light in stream[10:]]
    identity = LightIdentity(calibration, FOUR)
    used, wrong = unsafe(identity, stream[:9] + slipped)
    assert wrong == 0
    assert [at for at, good in enumerate(used) if not good] == [9, 10, 11]
    assert identity.doubts == {"image of another light": 3}


def test_one_frame_under_a_wrong_light_is_refused_alone(rendered: tuple[Calibration, Images]) -> None:
    calibration, images = rendered
    stream = list(shots(images))
    stream[13] = (replace(stream[13][0], pixels=images[3][3]), 3)
    identity = LightIdentity(calibration, FOUR)
    used, wrong = unsafe(identity, stream)
    assert wrong == 0
    assert [at for at, good in enumerate(used) if not good] == [13]


def test_two_swapped_neighbours_are_refused(rendered: tuple[Calibration, Images]) -> None:
    calibration, images = rendered
    stream = list(shots(images))
    (first, a), (second, b) = stream[21:23]
    stream[21:23] = [(replace(first, pixels=second.pixels), b), (replace(second, pixels=first.pixels), a)]
    used, wrong = unsafe(LightIdentity(calibration, FOUR), stream)
    assert wrong == 0
    assert [at for at, good in enumerate(used) if not good] == [21, 22]


def test_a_device_that_starts_anew_is_followed(rendered: tuple[Calibration, Images]) -> None:
    """After a reconnection ids and lights begin again; where the first id is known even if first frames are lost."""
    calibration, images = rendered
    before, after = list(shots(images[:5], first_id=1)), list(shots(images[5:], first_id=1))
    used, wrong = unsafe(LightIdentity(calibration, FOUR), list(shots(images[:5], first_id=7)) + after)
    assert (wrong, all(used)) == (0, True)
    used, wrong = unsafe(LightIdentity(calibration, FOUR, first_id=1), before[2:18] + after[3:])
    assert (wrong, all(used)) == (0, True)


def test_outputs_on_cross_check_the_set(rendered: tuple[Calibration, Images]) -> None:
    """A status sampled before the strobe, with no output on, says nothing; bits of other lines do not matter."""
    calibration, images = rendered
    lights = [LightConfig(output=output) for output in (4, 2, 1, 3)]
    other_line = 1 << 7
    for status, doubt in (
        (1 << 2 | other_line, None),
        (other_line, None),
        (0, None),
        (UNKNOWN, None),
        (1 << 4, "output of another light"),
        (1 << 4 | other_line, "output of another light"),
    ):
        identity = LightIdentity(calibration, lights)
        assert identity.identify(Shot(images[0][1], 7, 0, active_set=1, line_status=status)).doubt == doubt


def test_a_set_that_no_light_belongs_to_is_refused(rendered: tuple[Calibration, Images]) -> None:
    calibration, images = rendered
    identity = LightIdentity(calibration, FOUR)
    assert identity.identify(Shot(images[0][0], 0, 0, active_set=4)).doubt == "unknown set"
    assert identity.doubts == {"unknown set": 1}


def test_shots_without_their_chunk_go_by_the_count(rendered: tuple[Calibration, Images]) -> None:
    """An incomplete shot brings no chunks: the id tells its light from the last set told, its image nothing."""
    calibration, images = rendered
    identity = LightIdentity(calibration, FOUR)
    identity.identify(Shot(images[0][2], 17, 0, active_set=2))
    left_over = images[0][3]
    said = identity.identify(Shot(left_over, 20, 0, complete=False))
    assert (said.light, said.doubt) == (1, None)


def test_an_image_without_light_is_no_witness(rendered: tuple[Calibration, Images]) -> None:
    calibration, images = rendered
    assert calibration.dark is not None
    witness = LightWitness(calibration)
    for light, image in enumerate(images[0]):
        dark = calibration.dark[light]
        assert witness.lit_by(block_means((dark + 0.5 * (image - dark)).astype(np.uint8))) == light
        assert witness.lit_by(block_means((dark + 0.1 * (image - dark)).astype(np.uint8))) is None
        assert witness.lit_by(block_means(np.zeros_like(image))) is None


def test_without_a_flat_field_the_camera_is_believed(rendered: tuple[Calibration, Images]) -> None:
    calibration, images = rendered
    used, _ = unsafe(LightIdentity(replace(calibration, dark=None, flat=None), FOUR), shots(images, (1, 0, 2, 3)))
    assert all(used)
