"""A recorder in a process of its own: whoever hands it frames never waits, neither for the disk nor for Python.

Frames cross a ring of slots in shared memory (an unlinked file in /dev/shm where there is room for it). Two semaphores
count its slots, free and filled, so that one producer and one recorder need no lock that could die with either of them.
"""

import mmap
import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.errors import FoilsightError, RecordingError
from edge.core.types import Frame
from edge.recording import layout
from edge.recording.writer import RecordingWriter

_FIELDS = np.dtype(
    [
        ("light", "u4"),
        ("frame_id", "u8"),
        ("encoder_mm", "f8"),
        ("exposed_ns", "i8"),
        ("exposure_us", "f8"),
        ("complete", "?"),
    ]
)
_ACCEPTED, _WRITTEN, _REFUSED = range(3)
_IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Recorded:
    """`frames` in the recording; `dropped`: offered, but not in it; `problem`: why it ended early, None where it did
    not."""

    frames: int
    dropped: int
    problem: str | None


class RecorderProcess:
    """Records in a process of its own, from one producer thread; see `RecordingWriter` for the file.

    `bits` of a pixel as it is handed over; `ring_bytes` of shared memory for frames that wait to be written. Recording
    ends where less than `keep_free_bytes` of its disk are free. Raises RecordingError where the file cannot
    be created. Whatever happens to the recorder later, `write` goes on returning:
    what is not recorded is counted, and `problem` says why; `crashed`, where that is because its process ended without
    a word. Where the producer dies, the recorder writes what it was given, and the index. Use it as a context manager.
    """

    def __init__(
        self,
        path: Path,
        calibration: Calibration,
        *,
        roll: str = "",
        bits: Literal[8, 16] = 8,
        ring_bytes: int = 256 << 20,
        keep_free_bytes: int = 0,
    ) -> None:
        self._path, self._calibration = path, calibration
        self._pixels = np.dtype(f"u{bits // 8}")
        spawn = multiprocessing.get_context("spawn")
        slot = np.dtype(
            [("fields", _FIELDS), ("pixels", self._pixels, (calibration.height, calibration.width))], align=True
        )
        count = max(2, ring_bytes // slot.itemsize)
        try:
            self._ring = _Ring(
                slot,
                spawn.RawArray("B", count * slot.itemsize),
                spawn.RawArray("q", 3),
                spawn.Semaphore(count),
                spawn.Semaphore(0),
            )
            self._slots = self._ring.slots()
            self._link, theirs = spawn.Pipe(duplex=False)
            self._process = spawn.Process(
                target=_record,
                args=(self._ring, theirs, path, calibration, roll, keep_free_bytes),
                name="recorder",
                daemon=True,
            )
            self._process.start()
        except OSError as error:
            raise RecordingError(
                f"{path}: the recorder cannot be started ({error.strerror}): free memory and /dev/shm"
            ) from error
        theirs.close()
        self.crashed = False
        self._problem: str | None = None
        self._stopping = False
        try:
            refusal = self._link.recv()
        except EOFError as error:
            self._process.join()
            raise RecordingError(f"{path}: the recorder did not start ({self._how_it_ended()})") from error
        if refusal is not None:
            self._process.join()
            raise RecordingError(refusal)

    def __enter__(self) -> "RecorderProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def write(self, frame: Frame) -> bool:
        """Hand a frame over, at the cost of one copy. False where it is dropped: the ring is full, recording has ended.

        Raises CalibrationError or RecordingError where the frame is not of this camera.
        """
        layout.check_fits(frame.pixels, frame.light, self._calibration, f"frame {frame.frame_id}")
        if frame.pixels.dtype != self._pixels:
            raise RecordingError(f"frame {frame.frame_id} is of {frame.pixels.dtype}, the recorder of {self._pixels}")
        fields = layout.FrameFields.of(frame)
        ring = self._ring
        if self._stopping or self._ended or not ring.free.acquire(block=False):
            ring.counts[_REFUSED] += 1
            return False
        at = ring.counts[_ACCEPTED] % len(self._slots)
        self._slots["pixels"][at] = frame.pixels
        self._slots["fields"][at] = msgspec.structs.astuple(fields)
        ring.counts[_ACCEPTED] += 1
        ring.filled.release()
        return True

    @property
    def frames(self) -> int:
        """Frames in the recording so far."""
        return int(self._ring.counts[_WRITTEN])

    @property
    def dropped(self) -> int:
        """Frames offered so far that are not recorded and will not be."""
        accepted, written, refused = map(int, self._ring.counts)
        return refused + (accepted - written if self._ended else 0)

    @property
    def problem(self) -> str | None:
        """Why recording ended before it was told to, None where it did not."""
        if self._problem is None and self._ended:
            try:
                self._problem = self._link.recv()
            except EOFError:
                self.crashed = self._process.exitcode != 0 or not self._stopping
                if self.crashed:
                    self._problem = (
                        f"{self._path}: the recorder ended before it was told to ({self._how_it_ended()}): "
                        "what it had written is kept, see foilsight recover"
                    )
        return self._problem

    def stop(self, timeout_s: float = 30.0) -> Recorded:
        """Let the recorder write what is in the ring, and the index; one that has not done so in time is killed."""
        if not self._stopping:
            self._stopping = True
            self._ring.filled.release()  # without a frame: the end
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return Recorded(self.frames, self.dropped, self.problem)

    @property
    def _ended(self) -> bool:
        return not self._process.is_alive()

    def _how_it_ended(self) -> str:
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


@dataclass(frozen=True)
class _Ring:
    """What producer and recorder share. `counts`: frames accepted and refused by the one, written by the other."""

    slot: np.dtype[Any]
    memory: Any
    counts: Any
    free: Semaphore
    filled: Semaphore

    def slots(self) -> NDArray[Any]:
        return np.frombuffer(self.memory, self.slot)

    def touch(self) -> None:
        """Have the operating system map every page now, not when the first frames come."""
        np.frombuffer(self.memory, np.uint8)[:: mmap.PAGESIZE].max()


def _record(
    ring: _Ring, link: Connection, path: Path, calibration: Calibration, roll: str, keep_free_bytes: int
) -> None:
    """The recorder: its first word is None or why there is no file, a second one why recording has ended early."""
    told, problem = _Told(), None
    try:
        with RecordingWriter(path, calibration, roll=roll) as writer:
            ring.touch()
            _keep_freed_memory()
            link.send(None)
            for frame in _frames(ring, told):
                problem = no_room(path.parent, keep_free_bytes)
                if problem is not None:
                    break
                writer.write(frame)
            writer.close(frames_dropped=ring.counts[_REFUSED])
    except FoilsightError as error:
        problem = str(error)
    if problem is not None:
        link.send(problem)


def no_room(folder: Path, keep_free_bytes: int) -> str | None:
    """Why nothing may be recorded there, None where there is room."""
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder}: cannot be reached ({error.strerror})"
    if free_bytes >= keep_free_bytes:
        return None
    return f"{folder}: the disk is all but full, and what is free is left to events: make room, recording then goes on"


def _keep_freed_memory() -> None:
    """Have malloc keep what one frame frees for the next: glibc returns memory to the system by the measure of the
    largest block ever freed (up to 32 MiB), and to fault it in again for every frame costs more than to write it."""
    block = bytes(31 << 20)
    del block


def _frames(ring: _Ring, told: "_Told") -> Iterator[Frame]:
    """Frames as they come, each valid until the next; ends when told to, after SIGTERM or the producer's death, but
    never before the ring is empty."""
    slots = ring.slots()
    slots.flags.writeable = False
    while told.wait_for(ring.filled) and ring.counts[_WRITTEN] < ring.counts[_ACCEPTED]:
        at = ring.counts[_WRITTEN] % len(slots)
        yield Frame(slots["pixels"][at], *slots["fields"][at].item())
        ring.counts[_WRITTEN] += 1
        ring.free.release()


class _Told:
    """Whether anybody but the ring says that it is over."""

    def __init__(self) -> None:
        self._terminated = False
        self._producer = multiprocessing.parent_process()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C goes to the producer as well, who then calls stop
        signal.signal(signal.SIGTERM, self._terminate)

    def wait_for(self, filled: Semaphore) -> bool:
        """True as soon as there is something in the ring; False where it is empty and nothing more will come."""
        while not filled.acquire(timeout=_IDLE_S):
            if self._terminated or self._producer is None or not self._producer.is_alive():
                return False
        return True

    def _terminate(self, *_: object) -> None:
        self._terminated = True
