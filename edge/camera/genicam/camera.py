"""A camera that delivers shots: set up, read buffer by buffer, found again when it is lost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.camera.device_counters import DeviceClock, FrameIds
from edge.camera.genicam.connection import Connection, said
from edge.camera.genicam.devices import DeviceInfo
from edge.camera.genicam.nodes import FAILURES
from edge.camera.setup import enable_chunks, set_format
from edge.camera.shot import Shot
from edge.camera.strobe import StrobePlan, strobe_plan
from edge.camera.unpack import BY_CODE, copy_pixels, prepare
from edge.core.clock import monotonic_ns
from edge.core.config import CameraConfig
from edge.core.errors import CameraError
from edge.core.reading import one_line

_BACK_OFF_S = (0.2, 5.0)


@dataclass
class CameraCounts:
    """Since the camera was first opened: buffers `delivered`, of them `incomplete`; how often it was lost and found."""

    delivered: int = 0
    incomplete: int = 0
    reconnects: int = 0


class GenICamCamera:
    """A camera set up as `config` says, to be used in a `with` block and from one thread.

    `producers` besides those of the configuration and of GENICAM_GENTL64_PATH. `strobed` False leaves trigger,
    exposure and sequencer as the camera has them. Entering the block raises CameraError where there is no such camera
    or it cannot do what the configuration asks. A camera that is lost later is looked for with growing pauses;
    `trouble` says why it is not there.
    """

    def __init__(self, config: CameraConfig, producers: Sequence[Path] = (), *, strobed: bool = True) -> None:
        self.counts = CameraCounts()
        self.plan: StrobePlan | None = None
        self.trouble = ""
        self._config = config
        self._producers = [*config.producers, *producers]
        self._strobed = strobed
        self._connection: Connection | None = None
        self._running = False
        self._pause_s, self._next_try_s = _BACK_OFF_S[0], 0.0

    def __enter__(self) -> "GenICamCamera":
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def connected(self) -> bool:
        """False while the camera is lost."""
        return self._connection is not None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of its images in pixels."""
        return self._shape

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Of its pixels, unpacked."""
        return self._format.dtype

    @property
    def device(self) -> DeviceInfo:
        """The camera that was chosen."""
        return self._device

    @property
    def underruns(self) -> int:
        """Frames lost for want of a free buffer, as the producer counts them; 0 where it does not."""
        return 0 if self._connection is None else self._connection.underruns

    def start(self) -> None:
        """Begin to acquire. Raises CameraError."""
        self._running = True
        if self._connection is not None:
            self._connection.start()

    def stop(self) -> None:
        """Stop; images that nobody has taken are gone. Raises CameraError."""
        self._running = False
        if self._connection is not None:
            self._connection.stop()

    def next_into(self, out: NDArray[Any], deadline_s: float) -> Shot | None:
        """Copy the next image into `out`, an array of `shape` and `dtype`, which becomes the shot's pixels.

        None where nothing came within `deadline_s`, or the camera is lost; to open it again can take longer. An
        incomplete shot holds what arrived of it and what lay in the buffer before. Raises CameraError for images of
        another size or format.
        """
        if out.shape != self._shape or out.dtype != self.dtype:
            raise ValueError(f"{self._device} fills {self._shape} {self.dtype.__name__}, not {out.shape} {out.dtype}")
        end = time.monotonic() + deadline_s
        while True:
            left_s = end - time.monotonic()
            if self._connection is None:
                self._reconnect(left_s)
            else:
                try:
                    buffer = self._connection.wait(left_s)
                    shot = None if buffer is None else self._shot(self._connection, buffer, out)
                    if shot is not None:
                        return shot
                except FAILURES as error:
                    self._lose(f"{self._device} was lost ({one_line(error)})")
            if left_s <= 0:
                return None

    def _shot(self, connection: Connection, buffer: Any, out: NDArray[Any]) -> Shot | None:
        """The shot in a buffer; None for an incomplete one of which not even the id came."""
        arrived_ns = monotonic_ns()
        try:
            complete = bool(buffer.is_complete())
            frame_id = said(None, buffer, "frame_id")
            self.counts.delivered += 1
            self.counts.incomplete += not complete
            if complete:
                self._check(buffer, frame_id)
            elif frame_id is None:
                return None
            raw = np.frombuffer(buffer.raw_buffer, np.uint8, offset=said(0, buffer, "image_offset"))
            copy_pixels(raw, self._format, said(0, buffer, "padding_x"), out)
            return Shot(
                pixels=out,
                frame_id=self._ids.unwrapped(int(frame_id)),
                exposed_ns=self._exposed_ns(connection.device_ns(buffer), arrived_ns),
                complete=complete,
                **(connection.chunks(buffer) if complete else {}),
            )
        finally:
            buffer.parent.queue_buffer(buffer)

    def _check(self, buffer: Any, frame_id: int | None) -> None:
        if frame_id is None:
            raise CameraError(f"{self._device} does not number its images: what is lost could not be counted")
        height, width = self._shape
        delivered = (said(width, buffer, "width"), said(height, buffer, "height"))
        code = said(self._format.code, buffer, "pixel_format")
        if (*delivered, code) != (width, height, self._format.code):
            name = BY_CODE[code].name if code in BY_CODE else f"format {code:#010x}"
            raise CameraError(
                f"{self._device} delivers {delivered[0]} x {delivered[1]} {name} instead of "
                f"{width} x {height} {self._format.name}: somebody else has set it up anew"
            )

    def _exposed_ns(self, device_ns: int | None, arrived_ns: int) -> int:
        return arrived_ns if device_ns is None else self._clock.exposed_ns(device_ns, arrived_ns)

    def _open(self) -> None:
        connection = Connection(self._producers, self._config.device)
        try:
            self._device = connection.device
            self._format, self._shape = set_format(self._config, connection.nodes)
            prepare(self._format)
            if self._strobed:
                self.plan = strobe_plan(self._config, connection.nodes)
                self.plan.apply(connection.nodes)
            connection.read_chunks(enable_chunks(connection.nodes, self._config.strobe))
            if self._running:
                connection.start()
        except BaseException:
            connection.close()
            raise
        self._clock, self._ids = DeviceClock(), FrameIds()
        self._connection = connection

    def _reconnect(self, left_s: float) -> None:
        """Wait for the next try, or try: everything anew, for a new list of devices ends what is open."""
        wait_s = self._next_try_s - time.monotonic()
        if wait_s > 0:
            time.sleep(max(0.0, min(wait_s, left_s)))
            return
        try:
            self._open()
        except CameraError as error:
            self._lose(str(error))
        else:
            self.counts.reconnects += 1
            self.trouble = ""
            self._pause_s = _BACK_OFF_S[0]

    def _lose(self, why: str) -> None:
        self.trouble = why
        self._close()
        self._next_try_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _BACK_OFF_S[1])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
