"""Frames to MCAP. What `write` has acknowledged survives the death of the process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from mcap.well_known import MessageEncoding, SchemaEncoding
from mcap.writer import CompressionType, Writer

from edge.core.calibration import Calibration
from edge.core.clock import monotonic_ns
from edge.core.errors import RecordingError
from edge.core.types import U8, Frame, PlantedDefect
from edge.recording import layout, raw_image

_NEVER_BY_SIZE = 1 << 62  # chunks end where we end them: after each frame


def create(path: Path) -> BufferedWriter:
    """A new file. Raises RecordingError where there is one already or none can be."""
    try:
        return path.open("xb")
    except FileExistsError as error:
        raise RecordingError(f"{path}: exists already: choose another name") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be created ({error.strerror})") from error


def mcap_writer(stream: BufferedWriter) -> Any:  # the library's flush and finish carry no types
    """MCAP as recordings are written: not compressed, chunks end where the caller ends them."""
    return Writer(stream, chunk_size=_NEVER_BY_SIZE, compression=CompressionType.NONE)


class RecordingWriter:
    """Writes one recording, in place; see `edge.recording.layout` for the file.

    `roll` names the roll; `generator` says what rendered it (name, version, seed); `web_mm` is the length of web where
    it is known beforehand. An existing file is never touched. Raises RecordingError. Use it as a context manager: a
    clean exit writes the index.
    """

    def __init__(
        self,
        path: Path,
        calibration: Calibration,
        *,
        roll: str = "",
        generator: dict[str, str] | None = None,
        web_mm: float | None = None,
    ) -> None:
        self._path = path
        self._calibration = calibration
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._frames = 0
        monotonic, utc = monotonic_ns(), time.time_ns()
        self._utc_offset_ns = utc - monotonic
        self._log_ns = utc
        self._stream = create(path)
        self._mcap = mcap_writer(self._stream)
        about = {"format": layout.FORMAT, "roll": roll, "monotonic_ns": str(monotonic), "utc_ns": str(utc)}
        if web_mm is not None:
            about[layout.WEB_MM] = repr(float(web_mm))
        try:
            with self._writing():
                self._mcap.start(profile=layout.METADATA, library=layout.METADATA)
                self._mcap.add_metadata(layout.METADATA, about)
                if generator is not None:
                    self._mcap.add_metadata(layout.GENERATOR, generator)
                self._mcap.add_attachment(utc, utc, layout.CALIBRATION, "application/zip", calibration.to_bytes())
                self._mcap.flush()
        except RecordingError:
            path.unlink()
            raise

    def __enter__(self) -> "RecordingWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._stream.closed:
            self.close()

    def close(self, frames_dropped: int | None = None) -> None:
        """Write the index, and `frames_dropped` where somebody counted. Raises RecordingError."""
        with self._writing():
            if frames_dropped is not None:
                self._mcap.add_metadata(layout.CLOSING, {layout.FRAMES_DROPPED: str(frames_dropped)})
            self._mcap.finish()
            self._stream.close()

    def write(self, frame: Frame) -> None:
        """Append a frame; on return the operating system has it.

        Raises RecordingError where the file cannot be written, CalibrationError where the frame does not fit.
        """
        layout.check_fits(frame.pixels, frame.light, self._calibration, f"frame {frame.frame_id}")
        fields = layout.FrameFields.of(frame)
        self._log_ns = fields.exposed_ns + self._utc_offset_ns
        light = f"{layout.LIGHT_TOPIC}{fields.light}"
        with self._writing():
            self._add_image(light, raw_image.encode(frame.pixels, self._log_ns), self._frames)
            self._add_json(layout.FRAME_TOPIC, fields, self._frames)
            self._mcap.flush()
        self._frames += 1

    def write_truth_classes(self, first_row: int, class_index: U8) -> None:
        """Append what was planted: `class_index` (rows, width) u8 of the web rows from `first_row` on."""
        image = raw_image.encode(class_index, self._log_ns, f"{layout.FIRST_ROW}{first_row}")
        with self._writing():
            self._add_image(layout.TRUTH_CLASSES_TOPIC, image, 0)
            self._mcap.flush()

    def write_truth_defects(self, defects: list[PlantedDefect]) -> None:
        """Append a list of planted defects."""
        with self._writing():
            self._add_json(layout.TRUTH_DEFECTS_TOPIC, layout.TruthDefects(defects), 0)
            self._mcap.flush()

    def _add_image(self, topic: str, data: bytes, sequence: int) -> None:
        if topic not in self._channels:
            schema = self._schema(raw_image.SCHEMA_NAME, SchemaEncoding.Protobuf, raw_image.SCHEMA.SerializeToString())
            self._channels[topic] = self._mcap.register_channel(topic, MessageEncoding.Protobuf, schema)
        self._mcap.add_message(self._channels[topic], self._log_ns, data, self._log_ns, sequence)

    def _add_json(self, topic: str, message: msgspec.Struct, sequence: int) -> None:
        if topic not in self._channels:
            name, schema = _json_schema(type(message))
            channel_schema = self._schema(name, SchemaEncoding.JSONSchema, schema)
            self._channels[topic] = self._mcap.register_channel(topic, MessageEncoding.JSON, channel_schema)
        data = msgspec.json.encode(message)
        self._mcap.add_message(self._channels[topic], self._log_ns, data, self._log_ns, sequence)

    def _schema(self, name: str, encoding: str, data: bytes) -> int:
        if name not in self._schemas:
            self._schemas[name] = self._mcap.register_schema(name, encoding, data)
        return self._schemas[name]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._stream.closed:
            raise RecordingError(f"{self._path}: is closed, nothing more can be recorded")
        try:
            yield
        except OSError as error:
            self._stream.raw.close()  # without another try at the bytes that would not go
            raise RecordingError(
                f"{self._path}: cannot be written ({error.strerror}): frames up to here are kept, make room"
            ) from error


def _json_schema(kind: type[msgspec.Struct]) -> tuple[str, bytes]:
    """Name and JSON Schema of a message type, its own object at the top as MCAP's viewers expect."""
    _, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = components.pop(kind.__name__)
    return f"foilsight.{kind.__name__}", msgspec.json.encode({**schema, "$defs": components})
