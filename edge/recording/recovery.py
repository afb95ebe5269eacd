"""A torn recording rewritten as a whole one: the same records, and the index its writer did not come to write."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from mcap.records import Attachment, Channel, DataEnd, Message, Metadata, Schema

from edge.core.errors import RecordingError
from edge.recording import layout
from edge.recording.reader import Recording
from edge.recording.writer import create, mcap_writer


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was saved of a torn recording. `torn` False: nothing was missing, so nothing was written.

    `web_mm`: length of web the `frames` have seen, None where there is no frame or the pitch is unknown; `lost_bytes`:
    bytes at the end of the torn file that make no whole record, at most one frame where a process was killed.
    """

    torn: bool
    frames: int
    web_mm: float | None
    lost_bytes: int


def recover(torn: Path, out: Path, at: Callable[[float], None]) -> Recovered:
    """Copy every whole record of `torn`, unchanged, into a new recording `out`; `at` is told the millimetres of web.

    One thing is left out: the length of web its writer had announced, as that much did not come. Raises RecordingError
    where `torn` is not a recording, or `out` exists or cannot be written; `out` is then not there.
    """
    recording = Recording(torn)
    if not recording.torn:
        return Recovered(False, recording.frame_count or 0, recording.web_mm, 0)
    size, stream = torn.stat().st_size, create(out)
    try:
        with stream:
            return _Copy(recording, mcap_writer(stream), at).run(size)
    except BaseException as error:
        out.unlink()
        if isinstance(error, OSError):
            raise RecordingError(f"{out}: cannot be written ({error.strerror}): make room") from error
        raise


class _Copy:
    """From a torn recording to an MCAP writer. Schemas and channels are numbered anew, in the order they come."""

    def __init__(self, recording: Recording, mcap: Any, at: Callable[[float], None]) -> None:
        self._recording, self._mcap, self._at = recording, mcap, at
        self._schemas: dict[int, int] = {}
        self._channels: dict[int, int] = {}
        self._topics: dict[int, str] = {}
        self._frames = 0
        self._first_mm: float | None = None
        self._web_mm: float | None = None

    def run(self, size: int) -> Recovered:
        whole_bytes = 0
        self._mcap.start(profile=layout.METADATA, library=layout.METADATA)
        for record, end in self._recording.whole_records():
            whole_bytes = size if isinstance(record, DataEnd) else end
            with self._recording.sound():
                self._copy(record)
        lost_bytes = size - whole_bytes
        self._mcap.add_metadata(layout.CLOSING, {layout.LOST_BYTES: str(lost_bytes)})
        self._mcap.finish()
        return Recovered(True, self._frames, self._web_mm, lost_bytes)

    def _copy(self, record: object) -> None:
        match record:
            case Metadata(name=layout.METADATA):
                about = {key: value for key, value in record.metadata.items() if key != layout.WEB_MM}
                self._mcap.add_metadata(record.name, about)
            case Metadata():
                self._mcap.add_metadata(record.name, record.metadata)
            case Attachment():
                self._mcap.add_attachment(
                    record.create_time, record.log_time, record.name, record.media_type, record.data
                )
            case list():
                for part in record:
                    self._copy_part(part)
                self._mcap.flush()

    def _copy_part(self, part: Schema | Channel | Message) -> None:
        match part:
            case Schema():
                self._schemas[part.id] = self._mcap.register_schema(part.name, part.encoding, part.data)
            case Channel():
                self._channels[part.id] = self._mcap.register_channel(
                    part.topic, part.message_encoding, self._schemas[part.schema_id], part.metadata
                )
                self._topics[part.id] = part.topic
            case Message():
                channel = self._channels[part.channel_id]
                self._mcap.add_message(channel, part.log_time, part.data, part.publish_time, part.sequence)
                if self._topics[part.channel_id] == layout.FRAME_TOPIC:
                    self._count(part.data)

    def _count(self, frame: bytes) -> None:
        encoder_mm = msgspec.json.decode(frame, type=layout.FrameFields).encoder_mm
        self._frames += 1
        self._first_mm = encoder_mm if self._first_mm is None else self._first_mm
        self._web_mm = layout.seen_mm(self._first_mm, encoder_mm, self._recording.calibration)
        self._at(self._web_mm or 0.0)
