"""Recordings of earlier versions keep opening: a file written once, every field of it known.

`python tests/golden/test_format_1.py` makes the file where it is missing; one that is there is never written again.
"""

import hashlib
from pathlib import Path

import mcap.reader
import numpy as np

from edge.core.calibration import Calibration
from edge.core.types import Frame, PlantedDefect
from edge.recording.reader import Recording
from edge.recording.writer import RecordingWriter

FORMAT_1 = Path(__file__).parent / "format_1.mcap"
ROLL, GENERATOR, WEB_MM = "R 17/ä", {"name": "foilsight", "version": "0.1.0", "seed": "7"}, 1.75
PLANTED = PlantedDefect(
    id=3, label="crack", box_mm=(0.1, 0.2, 0.3, 0.45), length_mm=0.25, width_mm=0.1, relief_mm=-0.012
)
HEIGHT, WIDTH, FRAMES = 6, 9, 12
CALIBRATION_SHA256 = "a3cde884cb42297d1874d9cf04e77486bdd7b24ee0ae55d1a5d47d819c98b7ad"
PIXELS_SHA256 = "e9d1b082b7322d53c952b00624598faab79c17f2c43aedde44cce69ca95463db"
MONOTONIC_NS, UTC_NS = 5421814076448, 1795232178996808725


def frame_of(index: int) -> Frame:
    """Frame `index` of the golden recording; the last third has 16 bits."""
    dtype = np.uint8 if index < 8 else np.uint16
    rows, columns = np.indices((HEIGHT, WIDTH))
    pixels = ((37 * index + 11 * rows + 5 * columns) * (257 if dtype == np.uint16 else 1)).astype(dtype)
    frame_id = 2**40 + index + (index >= 5)  # one was lost
    return Frame(pixels, index % 4, frame_id, 0.1 * index - 0.25, 10**15 + 250_001 * index, 12.5 + index, index != 6)


def truth_classes() -> np.ndarray:
    """Planted classes of the first 16 rows."""
    return np.add.outer(np.arange(16), np.arange(WIDTH)).astype(np.uint8) % 5


def calibration() -> Calibration:
    """Four lights in a cross, each a little nearer to its own edge of the row."""
    azimuth = np.arange(4) * np.pi / 2
    x, y = 0.6 * np.round(np.cos(azimuth)), 0.6 * np.round(np.sin(azimuth))
    directions = np.repeat(np.stack([x, y, np.full(4, 0.8)], 1)[:, :, None], WIDTH, axis=2)
    flat = (180 + np.arange(4 * HEIGHT * WIDTH).reshape(4, HEIGHT, WIDTH) % 40).astype(np.float32)
    return Calibration(
        HEIGHT, WIDTH, directions, np.zeros_like(directions), flat * 0 + 4, flat, 255, 0.05, -1, "golden, format 1"
    )


def make_format_1() -> None:
    """Write the golden file; refused where it exists."""
    with RecordingWriter(FORMAT_1, calibration(), roll=ROLL, generator=GENERATOR, web_mm=WEB_MM) as writer:
        for index in range(FRAMES):
            writer.write(frame_of(index))
        writer.write_truth_classes(0, truth_classes()[:8])
        writer.write_truth_classes(8, truth_classes()[8:])
        writer.write_truth_defects([PLANTED])


def test_format_1_reads_as_it_was_written() -> None:
    recording = Recording(FORMAT_1)
    assert (recording.roll, recording.generator, recording.web_mm) == (ROLL, GENERATOR, WEB_MM)
    assert (recording.torn, recording.frame_count) == (False, FRAMES)
    assert recording.calibration.digest == CALIBRATION_SHA256
    assert recording.truth_defects() == [PLANTED]
    np.testing.assert_array_equal(recording.truth_classes(), truth_classes())

    digest = hashlib.sha256()
    frames = list(recording.frames())
    for index, frame in enumerate(frames):
        expected = frame_of(index)
        assert (frame.light, frame.frame_id, frame.complete) == (expected.light, expected.frame_id, expected.complete)
        assert (frame.encoder_mm, frame.exposure_us) == (expected.encoder_mm, expected.exposure_us)
        assert (frame.exposed_ns, frame.pixels.dtype) == (expected.exposed_ns, expected.pixels.dtype)
        np.testing.assert_array_equal(frame.pixels, expected.pixels)
        digest.update(frame.pixels.tobytes())
    assert len(frames) == FRAMES
    assert digest.hexdigest() == PIXELS_SHA256


def test_format_1_keeps_its_clock_pair() -> None:
    with FORMAT_1.open("rb") as stream:
        reader = mcap.reader.make_reader(stream, validate_crcs=True)
        about = next(record.metadata for record in reader.iter_metadata() if record.name == "foilsight")
        log_times = [message.log_time for _, _, message in reader.iter_messages("/frame")]
    assert (int(about["monotonic_ns"]), int(about["utc_ns"])) == (MONOTONIC_NS, UTC_NS)
    assert log_times == [frame_of(index).exposed_ns + UTC_NS - MONOTONIC_NS for index in range(FRAMES)]


if __name__ == "__main__":
    make_format_1()
