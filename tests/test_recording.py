"""Recordings: what goes in comes out, whatever happens to the file in between."""

import dataclasses
import signal
import struct
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mcap.reader
import msgspec
import numpy as np
import pytest
from conftest import files_of_at_most
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mcap.writer import CompressionType, Writer

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError, FoilsightError, RecordingError
from edge.core.types import Frame, FrameSource, PlantedDefect
from edge.recording import raw_image
from edge.recording.reader import Recording
from edge.recording.writer import RecordingWriter

DIRECTIONS = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8], [-0.6, 0, 0.8], [0, -0.6, 0.8]])


def calibration_of(height: int, width: int, pitch_mm: float | None = 0.05) -> Calibration:
    directions = np.repeat(DIRECTIONS[:, :, None], width, axis=2)
    flat = np.full((4, height, width), 200, np.float32)
    return Calibration(
        height, width, directions, np.zeros_like(directions), flat * 0, flat, 255, pitch_mm, 1, "made for a test"
    )


def frame_of(index: int, height: int, width: int, dtype: type = np.uint8) -> Frame:
    pixels = np.random.default_rng(index).integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)
    return Frame(pixels, index % 4, 1000 + 3 * index, 0.1 * index, 10**12 + 7919 * index, 12.5, index % 5 != 3)


def record(path: Path, frames: list[Frame], **about: object) -> Path:
    height, width = frames[0].pixels.shape
    with RecordingWriter(path, calibration_of(height, width), **about) as writer:  # type: ignore[arg-type]
        for frame in frames:
            writer.write(frame)
    return path


def assert_equal(read: Frame, written: Frame) -> None:
    for field in dataclasses.fields(Frame):
        if field.name != "pixels":
            assert getattr(read, field.name) == getattr(written, field.name), field.name
    assert read.pixels.dtype == written.pixels.dtype
    np.testing.assert_array_equal(read.pixels, written.pixels)


pixels = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([np.uint8, np.uint16])).flatmap(
    lambda shape: arrays(shape[2], shape[:2])
)


@settings(max_examples=40, deadline=None)
@given(
    pixels=pixels,
    light=st.integers(0, 3),
    frame_id=st.integers(0, 2**63),
    encoder_mm=st.floats(allow_nan=False, allow_infinity=False),
    exposed_ns=st.integers(0, 2**62),
    exposure_us=st.floats(0, 1e6),
    complete=st.booleans(),
)
def test_every_field_and_pixel_comes_back(pixels: np.ndarray, **fields: object) -> None:
    written = Frame(pixels, **fields)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        recording = Recording(record(Path(folder, "a.mcap"), [written, written]))
        read = list(recording.frames())
    assert len(read) == recording.frame_count == 2
    for frame in read:
        assert_equal(frame, written)
        assert not frame.pixels.flags.writeable
        assert frame.pixels.flags.aligned


def test_recording_says_what_it_is(tmp_path: Path) -> None:
    about = {"name": "foil", "seed": "7"}
    path = record(tmp_path / "a.mcap", [frame_of(i, 5, 7) for i in range(6)], roll="R 17/ä", generator=about)
    source: FrameSource = Recording(path)
    assert source.calibration.digest == calibration_of(5, 7).digest
    assert source.web_mm == pytest.approx(0.5 + 5 * 0.05)
    recording = Recording(path)
    assert (recording.roll, recording.generator, recording.torn) == ("R 17/ä", about, False)
    assert [f.frame_id for f in recording.frames()] == [f.frame_id for f in recording.frames()]


def test_web_mm_is_what_the_writer_knew_or_none(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [frame_of(0, 5, 7)], web_mm=123.25)
    assert Recording(path).web_mm == 123.25
    with RecordingWriter(tmp_path / "b.mcap", calibration_of(5, 7, pitch_mm=None)) as writer:
        writer.write(frame_of(0, 5, 7))
    assert Recording(tmp_path / "b.mcap").web_mm is None


def test_a_web_mm_that_is_no_number_is_damage(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [frame_of(0, 5, 7)], web_mm=123.25)
    path.write_bytes(path.read_bytes().replace(b"123.25", b"12a.25"))
    with pytest.raises(RecordingError, match="damaged"):
        Recording(path).web_mm  # noqa: B018


def test_no_frames_is_a_recording_too(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.mcap", calibration_of(5, 7)):
        pass
    recording = Recording(tmp_path / "a.mcap")
    assert (list(recording.frames()), recording.frame_count, recording.web_mm) == ([], 0, None)


def test_frames_come_in_the_order_written_whatever_their_clock(tmp_path: Path) -> None:
    frames = [dataclasses.replace(frame_of(i, 5, 7), exposed_ns=10**9 - i) for i in range(5)]
    read = list(Recording(record(tmp_path / "a.mcap", frames)).frames())
    assert [f.frame_id for f in read] == [f.frame_id for f in frames]


# --- truth


def test_truth_comes_back(tmp_path: Path) -> None:
    classes = np.random.default_rng(1).integers(0, 5, (24, 7), np.uint8)
    planted = [
        PlantedDefect(id=i, label="crack", box_mm=(0.1, 0.2, 0.3, i), length_mm=0.2, width_mm=0.1, relief_mm=-0.01)
        for i in range(3)
    ]
    path = tmp_path / "a.mcap"
    with RecordingWriter(path, calibration_of(5, 7)) as writer:
        for first_row in (0, 8, 16):
            writer.write(frame_of(first_row, 5, 7))
            writer.write_truth_classes(first_row, classes[first_row : first_row + 8])
        writer.write_truth_defects(planted)
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(path.read_bytes()[:-1])
    for recording in (Recording(path), Recording(torn)):
        np.testing.assert_array_equal(recording.truth_classes(), classes)
        assert recording.truth_defects() == planted
        assert len(list(recording.frames())) == 3


def test_a_real_web_has_no_truth(tmp_path: Path) -> None:
    recording = Recording(record(tmp_path / "a.mcap", [frame_of(0, 5, 7)]))
    assert recording.truth_classes() is None
    assert recording.truth_defects() is None


# --- torn, damaged, foreign


def test_cut_anywhere_it_reads_to_the_cut_or_says_so(tmp_path: Path) -> None:
    frames = [frame_of(i, 9, 11, np.uint16) for i in range(12)]
    whole = record(tmp_path / "whole.mcap", frames).read_bytes()
    cut = tmp_path / "cut.mcap"
    counts = []
    for position in np.linspace(0, len(whole) - 1, 120, dtype=int):
        cut.write_bytes(whole[:position])
        try:
            recording = Recording(cut)
            read = list(recording.frames())
        except RecordingError as error:
            assert "\n" not in str(error)
            assert not counts, "a longer piece of the file cannot be worse than a shorter one"
            continue
        assert recording.torn
        assert recording.frame_count is None
        for got, written in zip(read, frames, strict=False):
            assert_equal(got, written)
        counts.append(len(read))
    assert counts == sorted(counts)
    assert set(counts) == set(range(13))


def test_a_flipped_byte_is_never_passed_on(tmp_path: Path) -> None:
    frames = [frame_of(i, 9, 11) for i in range(4)]
    whole = record(tmp_path / "whole.mcap", frames).read_bytes()
    damaged = tmp_path / "damaged.mcap"
    refused = 0
    for position in np.linspace(0, len(whole) - 1, 400, dtype=int):
        data = bytearray(whole)
        data[position] ^= 0x55
        damaged.write_bytes(data)
        try:
            recording = Recording(damaged)
            for got, written in zip(recording.frames(), frames, strict=not recording.torn):
                assert_equal(got, written)
        except FoilsightError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_recording import calibration_of, frame_of
from edge.recording.writer import RecordingWriter
with RecordingWriter(Path(sys.argv[1]), calibration_of(64, 96)) as writer:
    for index in range(1_000_000):
        writer.write(frame_of(index, 64, 96))
        print(index + 1, flush=True)
"""


def test_kill_9_loses_no_acknowledged_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = next(int(line) for line in process.stdout if int(line) >= 50)
        process.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    recording = Recording(path)
    read = list(recording.frames())
    assert recording.torn
    assert len(read) >= acknowledged
    for index, frame in enumerate(read):
        assert_equal(frame, frame_of(index, 64, 96))


def test_full_disk_is_told_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    acknowledged = 0
    with files_of_at_most(100_000), RecordingWriter(path, calibration_of(32, 32)) as writer:
        with pytest.raises(RecordingError, match="cannot be written"):
            for index in range(1000):
                writer.write(frame_of(index, 32, 32))
                acknowledged += 1
        with pytest.raises(RecordingError, match="closed"):
            writer.write(frame_of(0, 32, 32))
    assert 10 < acknowledged < 1000
    assert len(list(Recording(path).frames())) == acknowledged


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(b"dear")
    with pytest.raises(RecordingError, match="exists already: choose another name"):
        RecordingWriter(path, calibration_of(5, 7))
    assert path.read_bytes() == b"dear"
    with pytest.raises(RecordingError, match="cannot be created"):
        RecordingWriter(tmp_path / "nowhere" / "a.mcap", calibration_of(5, 7))


def foreign(path: Path, metadata: dict[str, str] | None) -> Path:
    with path.open("wb") as stream:
        writer = Writer(stream, compression=CompressionType.NONE)
        writer.start()
        if metadata is not None:
            writer.add_metadata("foilsight", metadata)
        writer.finish()
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"", "torn before its first frame"),
        (b"just some text, longer than a magic number", "not a recording"),
        ("folder", "cannot be read"),
        ("mcap of another program", "another program"),
        ("format 99", "format 99"),
        ("no calibration", "no calibration"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path, content: bytes | str | None, says: str) -> None:
    path = tmp_path / "a.mcap"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
    elif content == "mcap of another program":
        foreign(path, None)
    elif content == "format 99":
        foreign(path, {"format": "99"})
    elif content == "no calibration":
        foreign(path, {"format": "1"})
    with pytest.raises(RecordingError, match=says) as caught:
        Recording(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "error", "says"),
    [
        (frame_of(0, 6, 7), CalibrationError, "calibration of another size"),
        (dataclasses.replace(frame_of(0, 5, 7), light=4), CalibrationError, "lit by light 4"),
        (dataclasses.replace(frame_of(0, 5, 7), encoder_mm=float("nan")), RecordingError, "not a number"),
    ],
)
def test_a_frame_that_could_not_be_read_is_not_written(
    tmp_path: Path, frame: Frame, error: type[FoilsightError], says: str
) -> None:
    with RecordingWriter(tmp_path / "a.mcap", calibration_of(5, 7)) as writer, pytest.raises(error, match=says):
        writer.write(frame)
    assert list(Recording(tmp_path / "a.mcap").frames()) == []


def test_frames_of_another_size_than_the_calibration_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mcap"
    with monkeypatch.context() as careless, RecordingWriter(path, calibration_of(7, 5)) as writer:
        careless.setattr("edge.recording.layout.check_fits", lambda *_: None)
        writer.write(frame_of(0, 5, 7))
    with pytest.raises(CalibrationError, match="calibration of another size"):
        list(Recording(path).frames())


# --- hostile


def refused(use: Callable[[], object], path: Path, says: str) -> None:
    """`use` is refused in one line that names the file, with little memory taken."""
    tracemalloc.start()
    try:
        with pytest.raises(FoilsightError, match=says) as caught:
            use()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < 600
    assert peak < 20 << 20


@pytest.mark.parametrize("web_mm", [float("inf"), float("nan"), -5.0, 0.0, 1e-320, 1e300])
def test_a_length_that_no_web_has_is_refused(tmp_path: Path, web_mm: float) -> None:
    path = record(tmp_path / "a.mcap", [frame_of(0, 5, 7)], web_mm=web_mm)
    refused(lambda: Recording(path).web_mm, path, "no web is")


def test_an_encoder_that_no_web_can_have_moved_gives_no_length(tmp_path: Path) -> None:
    far = dataclasses.replace(frame_of(1, 5, 7), encoder_mm=1e300)
    path = record(tmp_path / "a.mcap", [frame_of(0, 5, 7), far])
    refused(lambda: Recording(path).web_mm, path, "no web is")


def test_less_than_no_frames_cannot_be_dropped(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.mcap", calibration_of(5, 7)) as writer:
        writer.close(frames_dropped=-1)
    refused(lambda: Recording(tmp_path / "a.mcap").frames_dropped, tmp_path / "a.mcap", "damaged")


@pytest.mark.parametrize(
    ("first_row", "classes"),
    [
        (10**11, np.zeros((8, 7), np.uint8)),
        (-1, np.zeros((8, 7), np.uint8)),
        (0, np.zeros((8, 1), np.uint8)),
        (0, np.zeros((8, 7), np.uint16)),
    ],
    ids=["ten to the eleventh row", "row before the first", "another width", "another type"],
)
def test_truth_of_rows_that_the_web_cannot_have_is_refused(tmp_path: Path, first_row: int, classes: np.ndarray) -> None:
    path = tmp_path / "a.mcap"
    with RecordingWriter(path, calibration_of(5, 7)) as writer:
        writer.write(frame_of(0, 5, 7))
        writer.write_truth_classes(first_row, classes)
    refused(Recording(path).truth_classes, path, "damaged")


def test_a_number_where_text_belongs_takes_no_memory(tmp_path: Path) -> None:
    """bytes(n) of a number makes n bytes."""
    for text_field in (4, 7):
        message = raw_image.encode(np.zeros((5, 7), np.uint8), 0) + bytes([text_field << 3 | 5]) + b"\xff\xff\xff\x7f"
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="not text"):
                raw_image.decode(message)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20


def test_no_more_memory_is_taken_than_the_file_has_bytes(tmp_path: Path) -> None:
    path = record(tmp_path / "a.mcap", [frame_of(0, 5, 7)])
    size = struct.pack("<Q", len(calibration_of(5, 7).to_bytes()))
    path.write_bytes(path.read_bytes().replace(size + b"PK", struct.pack("<Q", 1 << 33) + b"PK"))
    refused(lambda: Recording(path), path, "torn before its first frame")


@pytest.mark.parametrize("compression", [CompressionType.LZ4, CompressionType.ZSTD])
def test_a_compressed_chunk_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: CompressionType
) -> None:
    path = tmp_path / "a.mcap"
    with monkeypatch.context() as other:
        packing = partial(Writer, chunk_size=1 << 62, compression=compression)
        other.setattr("edge.recording.writer.mcap_writer", packing)
        with RecordingWriter(path, calibration_of(500, 700)) as writer:
            writer.write(dataclasses.replace(frame_of(0, 5, 7), pixels=np.zeros((500, 700), np.uint8)))
            writer.write_truth_classes(0, np.zeros((500, 700), np.uint8))
    recording = Recording(path)
    for use in (lambda: list(recording.frames()), lambda: recording.web_mm, recording.truth_classes):
        with pytest.raises(RecordingError, match="compressed"):
            use()


def test_what_a_recording_says_of_itself_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    foreign(tmp_path / "a.mcap", {"format": "\x1b[2J\n" + "x" * 9999})
    refused(lambda: Recording(tmp_path / "a.mcap"), tmp_path / "a.mcap", "recording of format")


# --- as others see it


def test_any_mcap_reader_decodes_it_by_the_schemas_inside(tmp_path: Path) -> None:
    written = [frame_of(i, 5, 7, np.uint16) for i in range(8)]
    path = record(tmp_path / "a.mcap", written)
    images, fields = [], []
    with path.open("rb") as stream:
        for schema, channel, message in mcap.reader.make_reader(stream, validate_crcs=True).iter_messages():
            assert schema is not None
            if channel.topic.startswith("/light/"):
                assert (schema.name, schema.encoding, channel.message_encoding) == (
                    "foxglove.RawImage",
                    "protobuf",
                    "protobuf",
                )
                pool = descriptor_pool.DescriptorPool()
                for file in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                    pool.AddSerializedFile(file.SerializeToString())
                kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(schema.name))
                image = kind.FromString(message.data)
                assert (image.width, image.height, image.encoding, image.step) == (7, 5, "mono16", 14)
                assert image.timestamp.seconds * 10**9 + image.timestamp.nanos == message.log_time
                images.append((channel.topic, message.sequence, image.data))
            else:
                assert msgspec.json.decode(schema.data)["type"] == "object"
                fields.append((message.sequence, msgspec.json.decode(message.data)))
    assert images == [(f"/light/{f.light}", i, f.pixels.tobytes()) for i, f in enumerate(written)]
    assert fields == [(i, {k: getattr(f, k) for k in fields[0][1]}) for i, f in enumerate(written)]
    assert set(fields[0][1]) == {field.name for field in dataclasses.fields(Frame)} - {"pixels"}


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    frame = frame_of(0, 512, 1024)
    recording = Recording(record(tmp_path / "a.mcap", [frame] * 60))
    assert (tmp_path / "a.mcap").stat().st_size > 60 * frame.pixels.nbytes
    tracemalloc.start()
    try:
        assert sum(1 for _ in recording.frames()) == 60
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * frame.pixels.nbytes
