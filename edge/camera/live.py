"""The live camera as a source of frames, which goes on whatever becomes of the camera."""

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import msgspec

from edge.camera.identity import Doubt, LightIdentity
from edge.camera.process import Camera, CameraProcess, Report
from edge.camera.ring import Ring, RingReader, RingStatus, slots_in
from edge.camera.shot import UNKNOWN, Shot
from edge.camera.unpack import pixel_format
from edge.core.calibration import Calibration
from edge.core.config import CameraConfig
from edge.core.errors import CalibrationError
from edge.core.memory import empty_on_page
from edge.core.types import Frame

_POLL_S = 0.1
_TELL_AGAIN_S = 1.0


@dataclass
class LiveCounts:
    """What became of the exposures on this side: `yielded` as frames; `overwritten` before they could be inspected;
    of a light in `doubts`, by reason."""

    yielded: int = 0
    overwritten: int = 0
    doubts: Counter[Doubt] = field(default_factory=Counter)


class LiveCamera:
    """A `FrameSource` behind a camera process; frames flow between entering the block and leaving it.

    `open_camera` is called in that process with the configuration, its size made that of the calibration: the class
    `GenICamCamera`, or anything like it that can be pickled. `report` gets the kind and the detail of an alarm, in the
    thread that iterates: those of `CameraProcess`, `frames_overwritten`, and `light_in_doubt`.

    Exposures whose light is in doubt are left out and counted; ids count on where a camera that was opened again
    starts anew, with one id left out for whatever passed meanwhile. Raises CalibrationError where the configuration is
    for another camera than the calibration, CameraError where there is no memory for the ring or no such camera.
    """

    def __init__(
        self,
        config: CameraConfig,
        calibration: Calibration,
        open_camera: Callable[[CameraConfig], AbstractContextManager[Camera]],
        report: Report,
    ) -> None:
        config = _fitted(config, calibration)
        height, width = calibration.height, calibration.width
        dtype = pixel_format(config.pixel_format, width).dtype
        self.counts = LiveCounts()
        self._config, self._calibration = config, calibration
        self._report = report
        self._alarms: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._ring = Ring(height, width, dtype, slots_in(config.ring_mb, height, width, dtype))
        self._reader = RingReader(self._ring)
        self._process = CameraProcess(self._ring, partial(open_camera, config), self._hear)
        self._identity = LightIdentity(calibration, config.lights)
        self._run = 0
        self._last_id = self._last_device_id = -1
        self._ids_ahead = 0
        self._told_overwritten, self._told_s = 0, 0.0
        self._told_doubts: set[tuple[Doubt, int]] = set()
        self._buffer = empty_on_page((height, width), dtype)
        self._pixels = self._buffer.view()
        self._pixels.flags.writeable = False

    def __enter__(self) -> Self:
        self._process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()
        self._ring.close()
        self._tell()

    @property
    def calibration(self) -> Calibration:
        """Of the camera."""
        return self._calibration

    @property
    def web_mm(self) -> None:
        """Nobody knows how much web will come."""

    @property
    def status(self) -> RingStatus:
        """What the camera process says of itself."""
        return self._ring.status()

    @property
    def restarts(self) -> int:
        """How often the camera process had to be replaced."""
        return self._process.restarts

    @property
    def waiting(self) -> int:
        """Exposures on the ring that wait to be taken."""
        return self._reader.behind

    def recalibrate(self, calibration: Calibration) -> None:
        """Tell lights apart by another calibration of the same camera from now on. From any thread."""
        self._calibration = calibration
        self._identity.recalibrate(calibration)

    def frames(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Frame]:
        """Frames as they are exposed, until `stop` says so: it is asked before every frame and, where none comes, ten
        times a second. The pixels of a frame are valid until the next one. Raises CameraError where the camera cannot
        be opened at all; one that is lost later is waited for."""
        while not stop():
            self._tell()
            if not self._reader.wait(_POLL_S):
                self._process.check()
                continue
            yield from self._next()

    def rest(self) -> Iterator[Frame]:
        """Stop the camera for good; the frames that it had delivered and nobody has taken yet."""
        self._process.stop()
        while self._reader.behind:
            yield from self._next()
        self._tell()

    def _next(self) -> Iterator[Frame]:
        """The next exposure on the ring, if it is there and its light is sure."""
        shot = self._reader.next_into(self._buffer)
        self.counts.overwritten = self._reader.lost
        frame = None if shot is None else self._frame(shot)
        if frame is not None:
            self.counts.yielded += 1
            yield frame

    def _frame(self, shot: Shot) -> Frame | None:
        """The shot with its light, None where that is in doubt."""
        frame_id = self._frame_id(shot.frame_id)
        lit = self._identity.identify(shot)
        if lit.doubt is not None:
            self._refuse(lit.doubt, lit.light, frame_id)
            return None
        known = shot.encoder_count != UNKNOWN
        return Frame(
            pixels=self._pixels,
            light=lit.light,
            frame_id=frame_id,
            encoder_mm=shot.encoder_count * self._config.encoder_mm_per_count if known else float("nan"),
            exposed_ns=shot.exposed_ns,
            exposure_us=shot.exposure_us if shot.exposure_us > 0 else self._config.lights[lit.light].exposure_us,
            complete=shot.complete,
        ).knowing(shot.block_means)

    def _refuse(self, doubt: Doubt, light: int, frame_id: int) -> None:
        """Count an exposure that cannot be used; the first of its kind and light is told."""
        self.counts.doubts[doubt] += 1
        if (doubt, light) not in self._told_doubts:
            self._told_doubts.add((doubt, light))
            self._report(
                "light_in_doubt",
                f"exposures of light {light} are left out ({doubt}), the first is frame {frame_id}: "
                "compare the lamps' wires with the calibration",
            )

    def _frame_id(self, device_id: int) -> int:
        """An id that only grows. Where a camera was opened anew, what tells lights by its count starts anew too."""
        opened_again = self._reader.run != self._run
        if self._run and (opened_again or device_id < self._last_device_id):
            self._ids_ahead = self._last_id + 2 - device_id
        if opened_again:
            self._identity = LightIdentity(self._calibration, self._config.lights)
        self._run = self._reader.run
        self._last_device_id, self._last_id = device_id, device_id + self._ids_ahead
        return self._last_id

    def _hear(self, kind: str, detail: str) -> None:
        """From the thread that watches the process."""
        self._alarms.put((kind, detail))

    def _tell(self) -> None:
        """Hand on the alarms, in the thread of whoever iterates."""
        while not self._alarms.empty():
            self._report(*self._alarms.get())
        now_s = time.monotonic()
        more = self.counts.overwritten - self._told_overwritten
        if more and now_s - self._told_s > _TELL_AGAIN_S:
            self._told_overwritten, self._told_s = self.counts.overwritten, now_s
            self._report("frames_overwritten", f"{more} exposures were overwritten: inspection is too slow for them")


def _fitted(config: CameraConfig, calibration: Calibration) -> CameraConfig:
    """The configuration with the size of the calibration. Raises CalibrationError where it has another."""
    height, width, lights = calibration.height, calibration.width, calibration.lights
    fitted = msgspec.structs.replace(config, height_px=height, width_px=width)
    if config.height_px not in (None, height) or config.width_px not in (None, width):
        raise CalibrationError(
            f"calibration is for frames of {width} x {height} px, camera.width_px and camera.height_px say "
            f"{config.width_px or width} x {config.height_px or height}: use the calibration of this camera"
        )
    if len(config.lights) != lights:
        raise CalibrationError(
            f"calibration is for {lights} lights, camera.lights lists {len(config.lights)}: use that of this line"
        )
    return fitted
