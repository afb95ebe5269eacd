"""Frames from MCAP: a recording as a frame source."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from mcap.exceptions import InvalidMagic
from mcap.reader import SeekingReader
from mcap.records import Attachment, Channel, Chunk, DataEnd, Message, Metadata
from mcap.stream_reader import StreamReader
from mcap.summary import Summary

from edge.core.calibration import Calibration
from edge.core.errors import RecordingError
from edge.core.reading import one_line
from edge.core.types import U8, Frame, PlantedDefect
from edge.recording import layout, raw_image
from edge.recording.untrusted import DAMAGE, BoundedFile, parts_of

_GAPS = 100  # so many rows there may be to each that truth is said of
_LONGEST_WEB_MM = 1e9
_SHORTEST_WEB_MM = 1e-3


class Recording:
    """A recording as a FrameSource; see `edge.recording.layout` for the file.

    Raises RecordingError where `path` is not a recording or of a format this program does not know, CalibrationError
    where the calibration in it is damaged. A file torn by a crash opens as far as it goes: see `torn`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        metadata, calibration, self._head_bytes = self._head()
        if layout.METADATA not in metadata:
            raise RecordingError(f"{path}: an MCAP file of another program, not a Foilsight recording")
        self._about = metadata[layout.METADATA]
        if self._about.get("format") != layout.FORMAT:
            raise RecordingError(
                f"{path}: recording of format {one_line(self._about.get('format'))}, known here is {layout.FORMAT}: "
                "read it with the Foilsight that wrote it or a newer one"
            )
        if calibration is None:
            raise RecordingError(f"{path}: no calibration before its first frame: record again")
        self._generator = metadata.get(layout.GENERATOR, {})
        self._calibration = Calibration.from_bytes(calibration, str(path))
        self._summary = self._read_summary()

    @property
    def calibration(self) -> Calibration:
        """Camera and lights the frames were taken with."""
        return self._calibration

    @property
    def roll(self) -> str:
        """Name of the roll, empty where none was given."""
        return self._about.get("roll", "")

    @property
    def generator(self) -> dict[str, str]:
        """What rendered the web (name, version, seed); empty for a real one."""
        return self._generator

    @property
    def torn(self) -> bool:
        """The end of the file is missing: `frames()` stops after the last complete frame."""
        return self._summary is None

    @property
    def frame_count(self) -> int | None:
        """Number of frames, None where the file is torn."""
        if self._summary is None or self._summary.statistics is None:
            return None
        counts = self._summary.statistics.channel_message_counts
        return sum(
            counts.get(channel.id, 0)
            for channel in self._summary.channels.values()
            if channel.topic == layout.FRAME_TOPIC
        )

    @cached_property
    def frames_dropped(self) -> int | None:
        """Frames that came too fast to be recorded; None where nobody counted them or the file is torn."""
        if self.torn:
            return None
        with self.sound(), self._open() as stream:
            reader = SeekingReader(stream, record_size_limit=self._size)
            closing = [record.metadata for record in reader.iter_metadata() if record.name == layout.CLOSING]
            counts = [int(each[layout.FRAMES_DROPPED]) for each in closing if layout.FRAMES_DROPPED in each]
            if any(count < 0 for count in counts):
                raise ValueError("frames dropped are less than none")
        return sum(counts) if counts else None

    @cached_property
    def web_mm(self) -> float | None:
        """Length of web the frames have seen, as its writer knew it or from the encoder of the first and last frame and
        the height of the field; None where the file is torn or the pitch unknown."""
        if layout.WEB_MM in self._about:
            with self.sound():
                return _length(float(self._about[layout.WEB_MM]))
        first = next(self._indexed(layout.FRAME_TOPIC), None)
        last = next(self._indexed(layout.FRAME_TOPIC, reverse=True), None)
        if first is None or last is None:
            return None
        with self.sound():
            start, end = (msgspec.json.decode(message.data, type=layout.FrameFields) for message in (first, last))
            seen_mm = layout.seen_mm(start.encoder_mm, end.encoder_mm, self._calibration)
            return None if seen_mm is None else _length(seen_mm)

    def frames(self) -> Iterator[Frame]:
        """The frames in the order they were written; pixels are read-only views of the bytes read, one frame at a time.

        Ends early where the file is torn. Raises RecordingError where it is damaged before its end, CalibrationError
        where a frame does not fit the calibration.
        """
        image: tuple[str, Message] | None = None
        for topic, message in self._messages():
            if topic.startswith(layout.LIGHT_TOPIC):
                image = (topic, message)
            elif topic == layout.FRAME_TOPIC:
                yield self._frame(image, message)
                image = None

    def truth_classes(self) -> U8 | None:
        """Planted classes (rows, width) u8 from web row 0 on, background where nothing was said; None without truth."""
        with self.sound():
            pieces = [self._truth_piece(message) for message in self._on(layout.TRUTH_CLASSES_TOPIC)]
        if not pieces:
            return None
        rows, said = max(first + len(piece) for first, piece in pieces), sum(len(piece) for _, piece in pieces)
        if rows > _GAPS * said:
            raise RecordingError(f"{self._path}: damaged (truth of {said} rows in {rows}): record again")
        classes = np.zeros((rows, self._calibration.width), np.uint8)
        for first, piece in pieces:
            classes[first : first + len(piece)] = piece
        return classes

    @property
    def has_truth(self) -> bool:
        """Says what was planted in it, row by row; not known of a torn file."""
        return bool(self._truth_pieces)

    def truth_rows(self, first_row: int, rows: int) -> U8:
        """Planted classes (rows, width) u8 of web rows from `first_row` on, background where nothing was said.

        Reads no more of the file than holds these rows, so that a long web's truth need not fit into memory.
        """
        classes = np.zeros((rows, self._calibration.width), np.uint8)
        end = first_row + rows
        touched = {offset for first, count, offset in self._truth_pieces if first < end and first_row < first + count}
        for first, piece in (each for offset in sorted(touched) for each in self._truth_in_chunk(offset)):
            from_row, to_row = max(first, first_row), min(first + len(piece), end)
            if from_row < to_row:
                with self.sound():
                    classes[from_row - first_row : to_row - first_row] = piece[from_row - first : to_row - first]
        return classes

    def truth_defects(self) -> list[PlantedDefect] | None:
        """Planted defects, None without truth."""
        with self.sound():
            messages = self._on(layout.TRUTH_DEFECTS_TOPIC)
            lists = [msgspec.json.decode(message.data, type=layout.TruthDefects) for message in messages]
        return [defect for each in lists for defect in each.defects] if lists else None

    @cached_property
    def _truth_channels(self) -> set[int]:
        channels = () if self._summary is None else self._summary.channels.values()
        return {channel.id for channel in channels if channel.topic == layout.TRUTH_CLASSES_TOPIC}

    @cached_property
    def _truth_pieces(self) -> list[tuple[int, int, int]]:
        """First row, number of rows and chunk of each piece of truth; looked through once, a chunk at a time."""
        return [
            (first, len(piece), offset)
            for offset in sorted(self._chunks_with(self._truth_channels))
            for first, piece in self._truth_in_chunk(offset)
        ]

    def _truth_in_chunk(self, offset: int) -> list[tuple[int, U8]]:
        """First row and classes of every piece of truth in the chunk at byte `offset`."""
        with self.sound():
            return [self._truth_piece(message) for message in self._in_chunk(offset, self._truth_channels)]

    def _truth_piece(self, message: Message) -> tuple[int, U8]:
        """First row and classes (rows, width) of a message on `/truth/classes`."""
        class_index, first_row = raw_image.decode(message.data)
        first, width = int(first_row.removeprefix(layout.FIRST_ROW)), self._calibration.width
        if first < 0 or class_index.shape[1] != width or class_index.dtype != np.uint8:
            raise ValueError(f"truth is no classes of rows of {width} pixels")
        return first, np.asarray(class_index, np.uint8)

    def _frame(self, image: tuple[str, Message] | None, message: Message) -> Frame:
        where = f"{self._path}: frame at sequence {message.sequence}"
        with self.sound():
            fields = msgspec.json.decode(message.data, type=layout.FrameFields)
            topic, its_image = image or ("", None)
            if its_image is None or topic != f"{layout.LIGHT_TOPIC}{fields.light}":
                raise RecordingError(f"{where} has no image of light {fields.light}: record again")
            if its_image.sequence != message.sequence:
                raise RecordingError(f"{where} has the image of sequence {its_image.sequence}: record again")
            pixels, _ = raw_image.decode(its_image.data)
        layout.check_fits(pixels, fields.light, self._calibration, where)
        return Frame(pixels=pixels, **msgspec.structs.asdict(fields))

    def _head(self) -> tuple[dict[str, dict[str, str]], bytes | None, int]:
        """What stands before the first frame: metadata by name, the calibration file, and where they end."""
        metadata: dict[str, dict[str, str]] = {}
        try:
            with self._open() as stream:
                for record in self._records(stream):
                    if isinstance(record, Metadata):
                        metadata[record.name] = record.metadata
                    elif isinstance(record, Attachment) and record.name == layout.CALIBRATION:
                        return metadata, record.data, stream.tell()
                    elif isinstance(record, (Chunk, Message, DataEnd)):
                        break
        except InvalidMagic as error:
            raise RecordingError(f"{self._path}: not a recording (no MCAP file)") from error
        except DAMAGE as error:
            raise RecordingError(f"{self._path}: torn before its first frame, nothing can be read") from error
        return metadata, None, 0

    def _read_summary(self) -> Summary | None:
        try:
            with self._open() as stream:
                return SeekingReader(stream, record_size_limit=self._size).get_summary()
        except DAMAGE:
            return None

    def _on(self, topic: str) -> Iterator[Message]:
        if self.torn:
            return (message for its_topic, message in self._messages() if its_topic == topic)
        return self._indexed(topic)

    def _indexed(self, topic: str, *, reverse: bool = False) -> Iterator[Message]:
        """Messages on a topic as they were written, or backwards, without reading chunks that hold none; none where
        there is no index."""
        if self._summary is None:
            return
        channels = {channel.id for channel in self._summary.channels.values() if channel.topic == topic}
        for offset in sorted(self._chunks_with(channels), reverse=reverse):
            messages = self._in_chunk(offset, channels)
            yield from reversed(messages) if reverse else messages

    def _chunks_with(self, channels: set[int]) -> set[int]:
        """Where the chunks begin that hold messages of these channels."""
        indexes = [] if self._summary is None else self._summary.chunk_indexes
        return {index.chunk_start_offset for index in indexes if channels & index.message_index_offsets.keys()}

    def _in_chunk(self, offset: int, channels: set[int]) -> list[Message]:
        """The messages of these channels in the chunk at byte `offset`."""
        records, _ = next(self.whole_records(offset))
        parts = records if isinstance(records, list) else []
        return [part for part in parts if isinstance(part, Message) and part.channel_id in channels]

    def _messages(self) -> Iterator[tuple[str, Message]]:
        """Every message of every undamaged chunk with its topic, in the order of the file."""
        topics: dict[int, str] = {}
        for record, _ in self.whole_records(self._head_bytes):
            for part in record if isinstance(record, list) else ():
                if isinstance(part, Channel):
                    topics[part.id] = part.topic
                elif isinstance(part, Message):
                    with self.sound():
                        topic = topics[part.channel_id]
                    yield topic, part

    def whole_records(self, start: int = 0) -> Iterator[tuple[object, int]]:
        """MCAP's records from byte `start` up to and with DataEnd, each with the byte it ends at; a chunk, its checksum
        verified, as the list of records in it.

        Ends early where the file is torn. Raises RecordingError where it is damaged before its end.
        """
        try:
            with self._open() as stream:
                stream.seek(start)
                for record in self._records(stream, skip_magic=start > 0):
                    whole = parts_of(record) if isinstance(record, Chunk) else record
                    yield whole, stream.tell()
                    if isinstance(record, DataEnd):
                        return
        except DAMAGE as error:
            if not self.torn:
                raise self._damaged(error) from error

    def _records(self, stream: IO[bytes], *, skip_magic: bool = False) -> Iterator[object]:
        return StreamReader(stream, emit_chunks=True, skip_magic=skip_magic, record_size_limit=self._size).records

    @contextmanager
    def sound(self) -> Iterator[None]:
        """What is not as it should be in a message read here is a damaged recording: RecordingError."""
        try:
            yield
        except DAMAGE as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> RecordingError:
        return RecordingError(f"{self._path}: damaged ({type(error).__name__} {one_line(error)}): record again")

    @property
    def _size(self) -> int:
        return self._path.stat().st_size

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        try:
            with self._path.open("rb", buffering=0) as raw, BoundedFile(raw, self._size) as stream:
                yield stream
        except OSError as error:
            raise RecordingError(f"{self._path}: cannot be read ({error.strerror})") from error


def _length(web_mm: float) -> float:
    if not _SHORTEST_WEB_MM <= web_mm <= _LONGEST_WEB_MM:
        raise ValueError(f"no web is {web_mm} mm long")
    return web_mm
