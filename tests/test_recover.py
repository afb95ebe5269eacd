"""Recovery: a torn recording becomes a whole one, with everything that was whole in it."""

import itertools
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mcap.reader
import numpy as np
import pytest
from conftest import files_of_at_most
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel, Chunk
from test_recording import KILLED, assert_equal, calibration_of, frame_of, record

from edge.core.errors import RecordingError
from edge.core.types import PlantedDefect
from edge.recording.reader import Recording
from edge.recording.writer import RecordingWriter
from edge.service.recover import recover, sentence

FRAMES = [frame_of(i, 3, 5) for i in range(5)]
PLANTED = PlantedDefect(id=1, label="crack", box_mm=(0.0, 0.1, 0.2, 0.3), length_mm=0.2, width_mm=0.1, relief_mm=-0.01)
CLASSES = np.arange(40, dtype=np.uint8).reshape(8, 5) % 5


def rendered(path: Path) -> bytes:
    """A small recording with everything a recording can hold."""
    about = {"name": "foil", "seed": "7"}
    with RecordingWriter(path, calibration_of(3, 5), roll="R 17/ä", generator=about, web_mm=99.0) as writer:
        for frame in FRAMES:
            writer.write(frame)
        writer.write_truth_classes(0, CLASSES)
        writer.write_truth_defects([PLANTED])
    return path.read_bytes()


with tempfile.TemporaryDirectory() as _folder:
    WHOLE = rendered(Path(_folder, "whole.mcap"))


def recover_cut(folder: Path, cut: int) -> int | None:
    """Recover the first `cut` bytes of WHOLE and hold the result against the piece itself: its number of frames, None
    where it is refused."""
    torn, out = folder / "torn.mcap", folder / "out.mcap"
    out.unlink(missing_ok=True)
    torn.write_bytes(WHOLE[:cut])
    try:
        recovered = recover(torn, out, quiet=True)
    except RecordingError as error:
        assert "\n" not in str(error)
        assert not out.exists()
        return None
    piece, whole = Recording(torn), Recording(out)
    assert (whole.torn, whole.frame_count) == (False, recovered.frames)
    frames = list(whole.frames())
    assert len(frames) == recovered.frames == len(list(piece.frames()))
    for got, written in zip(frames, FRAMES, strict=False):
        assert_equal(got, written)
    assert (whole.roll, whole.generator, whole.calibration.digest) == (
        piece.roll,
        piece.generator,
        piece.calibration.digest,
    )
    assert whole.truth_defects() == piece.truth_defects()
    np.testing.assert_array_equal(whole.truth_classes(), piece.truth_classes())
    assert whole.web_mm == recovered.web_mm
    assert torn.read_bytes() == WHOLE[:cut]
    assert 0 <= recovered.lost_bytes < cut
    return recovered.frames


def test_cut_at_any_step_it_is_recovered_or_refused(tmp_path: Path) -> None:
    found = [recover_cut(tmp_path, cut) for cut in range(0, len(WHOLE), 61)]
    refused = list(itertools.takewhile(lambda frames: frames is None, found))
    counts = [frames for frames in found[len(refused) :] if frames is not None]
    assert len(refused) + len(counts) == len(found), "a longer piece cannot be worse than a shorter one"
    assert counts == sorted(counts)
    assert set(counts) == set(range(len(FRAMES) + 1))


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(WHOLE) - 1))
def test_cut_at_any_byte_it_is_recovered_or_refused(cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recover_cut(Path(folder), cut)


def test_every_byte_of_a_frame_counts_for_no_other(tmp_path: Path) -> None:
    _, end = frame_spans(tmp_path)[2]
    counts = [recover_cut(tmp_path, cut) for cut in range(end - 150, end + 150)]
    assert counts == [2] * 150 + [3] * 150


def frame_spans(folder: Path) -> list[tuple[int, int]]:
    """Where the chunk of each frame of WHOLE starts and ends."""
    path = folder / "whole.mcap"
    path.write_bytes(WHOLE)
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    chunks = summary.chunk_indexes[: len(FRAMES)]
    return [(chunk.chunk_start_offset, chunk.chunk_start_offset + chunk.chunk_length) for chunk in chunks]


def mcap_records(path: Path) -> tuple[object, ...]:
    """Metadata, attachments, channels and messages, as any MCAP reader sees them."""
    with path.open("rb") as stream:
        reader = mcap.reader.make_reader(stream, validate_crcs=True)
        metadata = {record.name: record.metadata for record in reader.iter_metadata()}
        attachments = list(reader.iter_attachments())
        messages = [(s.name, s.data, c.topic, m) for s, c, m in reader.iter_messages(log_time_order=False) if s]
        return metadata, attachments, messages, reader.get_header()


def test_what_is_recovered_is_byte_for_byte_what_was_written(tmp_path: Path) -> None:
    whole, torn, out = (tmp_path / f"{name}.mcap" for name in ("whole", "torn", "out"))
    whole.write_bytes(WHOLE)
    torn.write_bytes(WHOLE[:-1])
    recovered = recover(torn, out, quiet=True)
    assert (recovered.frames, recovered.web_mm) == (5, pytest.approx(0.4 + 3 * 0.05))
    written, saved = mcap_records(whole), mcap_records(out)
    assert saved[1:] == written[1:]
    about = dict(written[0])  # type: ignore[call-overload]
    del about["foilsight"]["web_mm"]  # announced, but it did not come
    assert saved[0] == {**about, "closing": {"lost_bytes": "0"}}


def test_the_loss_is_told_in_bytes(tmp_path: Path) -> None:
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    start, end = frame_spans(tmp_path)[4]
    torn.write_bytes(WHOLE[: end - 1])
    recovered = recover(torn, out, quiet=True)
    assert (recovered.frames, recovered.lost_bytes) == (4, end - 1 - start)
    assert sentence(recovered, torn, out) == (
        f"{out}: 4 frames, 0.5 mm of web recovered; {end - 1 - start} bytes at the end of {torn} were lost"
    )


def test_zeros_a_power_cut_left_at_the_end_are_no_frames(tmp_path: Path) -> None:
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    torn.write_bytes(WHOLE[: frame_spans(tmp_path)[3][1]] + bytes(5000))
    assert recover(torn, out, quiet=True).frames == 4


def test_a_whole_recording_is_left_alone(tmp_path: Path) -> None:
    path, out = tmp_path / "a.mcap", tmp_path / "out.mcap"
    recovered = recover(record(path, FRAMES), out, quiet=True)
    assert (recovered.torn, recovered.frames, recovered.lost_bytes) == (False, 5, 0)
    assert not out.exists()
    assert "not torn, nothing to recover (5 frames" in sentence(recovered, path, out)


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    torn.write_bytes(WHOLE[:-1])
    out.write_bytes(b"dear")
    for target in (out, torn):
        with pytest.raises(RecordingError, match="exists already"):
            recover(torn, target, quiet=True)
    assert (out.read_bytes(), torn.read_bytes()) == (b"dear", WHOLE[:-1])


@pytest.mark.parametrize(
    ("content", "says"), [(b"some text, longer than a magic", "not a recording"), (b"", "nothing can be read")]
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=says):
        recover(path, tmp_path / "out.mcap", quiet=True)
    assert not (tmp_path / "out.mcap").exists()


def test_a_full_disk_is_told_and_leaves_no_half_of_it(tmp_path: Path) -> None:
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    torn.write_bytes(WHOLE[:-1])
    with files_of_at_most(4_000), pytest.raises(RecordingError, match="make room"):
        recover(torn, out, quiet=True)
    assert not out.exists()


@pytest.mark.parametrize("attempt", range(5))
def test_kill_9_at_any_moment_and_every_acknowledged_frame_is_recovered(tmp_path: Path, attempt: int) -> None:
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    command = [sys.executable, "-c", KILLED, str(torn), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(random.uniform(0, 0.1) * attempt)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    acknowledged = max(int(line) for line in lines if line.endswith("\n"))
    recovered = recover(torn, out, quiet=True)
    frames = list(Recording(out).frames())
    assert recovered.torn
    assert len(frames) == recovered.frames >= acknowledged
    for index, frame in enumerate(frames):
        assert_equal(frame, frame_of(index, 64, 96))
    assert recovered.web_mm == pytest.approx(frames[-1].encoder_mm + 64 * 0.05)


CHANNEL = b"%c\0\2\0\6\0\0\0/frame"
"""The number of the channel of frames, the number of its schema, its topic."""


@pytest.mark.parametrize(
    ("whole", "broken"),
    [(b'{"light":0', b'["light":0'), (b'"encoder_mm":0.0', b'"encoder_m":0.00'), (CHANNEL % 2, CHANNEL % 9)],
)
def test_what_is_torn_and_damaged_is_refused_in_one_line(tmp_path: Path, whole: bytes, broken: bytes) -> None:
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    torn.write_bytes(without_checksums(WHOLE[: len(WHOLE) * 3 // 4].replace(whole, broken)))
    with pytest.raises(RecordingError) as refused:
        recover(torn, out, quiet=True)
    line = str(refused.value)
    assert line.startswith(f"{torn}: damaged")
    assert line.isprintable()
    assert not out.exists()


@pytest.mark.parametrize("headers", [0, 1, 2])
def test_what_is_recovered_opens_however_often_the_header_comes(tmp_path: Path, headers: int) -> None:
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    end = 17 + int.from_bytes(WHOLE[9:17], "little")
    torn.write_bytes(WHOLE[:8] + headers * WHOLE[8:end] + WHOLE[end:-1])
    recovered = recover(torn, out, quiet=True)
    whole = Recording(out)
    assert (whole.torn, whole.frame_count) == (False, recovered.frames)
    assert recovered.frames == len(FRAMES)


@pytest.mark.parametrize(
    ("name", "channel"),
    [("/frame", 9), ("/other", 2)],
    ids=["a second channel of frames", "a channel that no longer carries frames"],
)
def test_frames_are_counted_by_the_topic_their_channel_has_by_then(tmp_path: Path, name: str, channel: int) -> None:
    """Between two frames a chunk names a channel anew."""
    torn, out = tmp_path / "torn.mcap", tmp_path / "out.mcap"
    builder = RecordBuilder()
    Channel(channel, name, "json", {}, 2).write(builder)
    anew = builder.end()
    builder = RecordBuilder()
    Chunk("", anew, 0, 0, 0, len(anew)).write(builder)
    third = [at for at, opcode in records_of(WHOLE) if opcode == Opcode.CHUNK][2]
    torn.write_bytes(WHOLE[:third] + builder.end() + WHOLE[third:-1])
    recovered = recover(torn, out, quiet=True)
    assert recovered.frames == Recording(out).frame_count == (2 if channel == 2 else len(FRAMES))


def records_of(data: bytes) -> list[tuple[int, int]]:
    """Where every record begins, and its opcode."""
    found, at = [], 8
    while at + 9 <= len(data):
        found.append((at, data[at]))
        at += 9 + int.from_bytes(data[at + 1 : at + 9], "little")
    return found


def without_checksums(data: bytes) -> bytes:
    """The same recording with the checksum of every chunk 0, which stands for none."""
    out = bytearray(data)
    for at, opcode in records_of(data):
        if opcode == Opcode.CHUNK:
            out[at + 33 : at + 37] = bytes(4)
    return bytes(out)
