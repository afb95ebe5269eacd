"""Exposures in shared memory: one process writes and never waits, another reads what it can keep up with.

A slot carries a sequence number: odd while exposure n is being written into it, 2 n + 2 when it is whole. A reader
copies a slot and looks at its number again: what was overwritten meanwhile is counted as lost and never delivered.
Neither side holds a lock, so that either can be killed at any point and another be put in its place.

The order of loads and stores is that of x86-64 (total store order; a large memcpy fences its streaming stores): on a
processor with weaker order the sequence numbers would need barriers.
"""

import mmap
import os
import select
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing.reduction import DupFd
from operator import attrgetter
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from edge.camera.shot import Shot
from edge.core.clock import monotonic_ns
from edge.core.errors import CameraError
from edge.core.types import Pixels

CameraState = Literal["starting", "streaming", "no trigger", "device lost", "failed"]
_STATES: tuple[CameraState, ...] = get_args(CameraState)
_PLACE = "/dev/shm"
MIN_SLOTS = 8
_TEXT_BYTES = 512
_HEADER = np.dtype(
    [
        ("written", "i8"),
        ("run", "i8"),
        ("heartbeat_ns", "i8"),
        ("state", "i8"),
        ("incomplete", "i8"),
        ("underruns", "i8"),
        ("detail", f"S{_TEXT_BYTES}"),
        ("scheduling", f"S{_TEXT_BYTES}"),
    ]
)
_KINDS: dict[object, str] = {int: "i8", float: "f8", bool: "?"}
_FIELDS = np.dtype([(field.name, _KINDS[field.type]) for field in fields(Shot) if field.name != "pixels"])
"""A `Shot` but for its pixels, in its order."""
_fields_of = attrgetter(*_FIELDS.names or ())


@dataclass(frozen=True, slots=True)
class RingStatus:
    """What the writer says of itself. `state` and, where there is more to say, `detail`; `scheduling` of its process;
    `run` counts how often a camera has been opened; `heartbeat_ns` on the monotonic clock; over all runs: `written`
    exposures, how many of them `incomplete`, and `underruns`: exposures that found no buffer in the producer."""

    state: CameraState
    detail: str
    scheduling: str
    run: int
    heartbeat_ns: int
    written: int
    incomplete: int
    underruns: int


class Ring:
    """Memory for `slots` exposures of (height, width) `dtype`, in an unnamed file that goes with its last user.

    Handed to a process that is being spawned it is the same memory there. One `RingWriter` and one `RingReader` at a
    time. Raises CameraError where there is no room for it.
    """

    def __init__(self, height: int, width: int, dtype: type[np.uint8] | type[np.uint16], slots: int) -> None:
        self._layout = (height, width, np.dtype(dtype), slots)
        size = _size(self._layout)
        self._file = _reserve(size, slots)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._map()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared, (DupFd(self._file), DupFd(self._bell), self._layout)

    def close(self) -> None:
        """Let go of the file; the memory goes with the last array that shows it."""
        os.close(self._file)
        os.close(self._bell)

    @property
    def slots(self) -> int:
        """How many exposures the memory holds. The one that is overwritten next cannot be read."""
        return self._layout[3]

    def status(self) -> RingStatus:
        """What the writer says of itself, as it is now."""
        written, run, heartbeat_ns, state, incomplete, underruns, detail, scheduling = self.header.item()
        return RingStatus(
            _STATES[state],
            detail.decode(errors="replace"),
            scheduling.decode(errors="replace"),
            run,
            heartbeat_ns,
            written,
            incomplete,
            underruns,
        )

    def ring_bell(self) -> None:
        """Wake the reader."""
        os.eventfd_write(self._bell, 1)

    def hear_bell(self, timeout_s: float) -> None:
        """Sleep until the bell has rung since it was last heard, or the time is over."""
        bell = select.poll()
        bell.register(self._bell, select.POLLIN)
        if bell.poll(1e3 * timeout_s):
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)

    def _map(self) -> None:
        memory = mmap.mmap(self._file, _size(self._layout), mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self.header: NDArray[Any] = np.frombuffer(memory, _HEADER, 1).reshape(())
        slots = np.frombuffer(memory, _slot(self._layout), self.slots, mmap.PAGESIZE)
        self.sequence: NDArray[np.int64] = slots["sequence"]
        self.run: NDArray[np.int64] = slots["run"]
        self.fields: NDArray[Any] = slots["fields"]
        self.pixels: Pixels = slots["pixels"]


class RingWriter:
    """Writes where the last writer ended, whole exposures only; its process may die at any point."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._number = int(ring.header["written"])
        self.new_run()
        self.beat()
        self.say("starting")

    def new_run(self) -> None:
        """From here on the camera's counters start anew."""
        self._ring.header["run"] += 1
        self._underruns_before = int(self._ring.header["underruns"])

    def slot(self) -> Pixels:
        """The pixels of the next exposure, to be written into; the same until it is committed."""
        at = self._number % self._ring.slots
        self._ring.sequence[at] = 2 * self._number + 1
        pixels: Pixels = self._ring.pixels[at]
        return pixels

    def commit(self, shot: Shot) -> None:
        """Give out what was written into `slot()`; of `shot` all fields but its pixels."""
        ring, at = self._ring, self._number % self._ring.slots
        ring.fields[at] = _fields_of(shot)
        ring.run[at] = ring.header["run"]
        ring.sequence[at] = 2 * self._number + 2
        self._number += 1
        ring.header["written"] = self._number
        ring.header["incomplete"] += not shot.complete
        ring.ring_bell()

    def beat(self) -> None:
        """Sign of life."""
        self._ring.header["heartbeat_ns"] = monotonic_ns()

    def say(self, state: CameraState, detail: str = "") -> None:
        """What the camera is doing, for everybody who has the ring."""
        self._ring.header["detail"] = detail.encode()[:_TEXT_BYTES]
        self._ring.header["state"] = _STATES.index(state)

    def say_scheduling(self, text: str) -> None:
        """How the operating system treats the writer."""
        self._ring.header["scheduling"] = text.encode()[:_TEXT_BYTES]

    def count_underruns(self, of_this_run: int) -> None:
        """Exposures of this run that found no buffer in the producer."""
        self._ring.header["underruns"] = self._underruns_before + of_this_run


class RingReader:
    """Reads whole exposures in their order, from the next one written on.

    `lost`: overwritten before they were read. `run`: which opening of the camera the last one delivered is from.
    """

    def __init__(self, ring: Ring) -> None:
        self.lost = 0
        self.run = 0
        self._ring = ring
        self._next = int(ring.header["written"])

    @property
    def behind(self) -> int:
        """Exposures written that were not read yet."""
        return int(self._ring.header["written"]) - self._next

    def wait(self, timeout_s: float) -> bool:
        """Whether there is an exposure to read; sleeps until there is one, `timeout_s` at most."""
        if self._waiting():
            return True
        self._ring.hear_bell(timeout_s)
        return self._waiting()

    def next_into(self, out: Pixels) -> Shot | None:
        """Copy the next exposure into `out`, which becomes the pixels of the shot; None where there is none."""
        ring = self._ring
        while self._waiting():
            self._skip_overwritten()
            number, self._next = self._next, self._next + 1
            at = number % ring.slots
            np.copyto(out, ring.pixels[at])
            values, run = ring.fields[at].item(), int(ring.run[at])
            if ring.sequence[at] == 2 * number + 2:
                self.run = run
                return Shot(out, *values)
            self.lost += 1
        return None

    def _waiting(self) -> bool:
        return self.behind > 0

    def _skip_overwritten(self) -> None:
        """Where the oldest exposures are gone, go on with one that will last until it is copied: an eighth of the ring
        ahead of the writer. Later would lose more of the web at once."""
        slots = self._ring.slots
        oldest = int(self._ring.header["written"]) - slots + 1
        if self._next < oldest:
            first = oldest + slots // 8
            self.lost += first - self._next
            self._next = first


_Layout = tuple[int, int, np.dtype[Any], int]


def slots_in(megabytes: float, height: int, width: int, dtype: type[np.uint8] | type[np.uint16]) -> int:
    """How many exposures a ring of so much memory holds, at least MIN_SLOTS."""
    return max(MIN_SLOTS, int(megabytes * 1e6) // _slot((height, width, np.dtype(dtype), 1)).itemsize)


def _slot(layout: _Layout) -> np.dtype[Any]:
    """Pixels first, and every slot on a page of its own."""
    height, width, dtype, _ = layout
    pixels = np.dtype((dtype, (height, width)))
    words = -(-pixels.itemsize // 8) * 8
    size = words + 16 + _FIELDS.itemsize
    return np.dtype(
        {
            "names": ["pixels", "sequence", "run", "fields"],
            "formats": [pixels, "i8", "i8", _FIELDS],
            "offsets": [0, words, words + 8, words + 16],
            "itemsize": -(-size // mmap.PAGESIZE) * mmap.PAGESIZE,
        }
    )


def _size(layout: _Layout) -> int:
    return mmap.PAGESIZE + layout[3] * _slot(layout).itemsize


def _reserve(size: int, slots: int) -> int:
    """A file without a name, all of its memory taken at once. Raises CameraError."""
    try:
        free = os.statvfs(_PLACE)
        room = free.f_bavail * free.f_frsize
        if size > room:
            raise CameraError(
                f"camera.ring_mb: {slots} exposures take {size >> 20:,} MiB of shared memory, {_PLACE} has "
                f"{room >> 20:,} MiB free: keep fewer, or enlarge {_PLACE}"
            )
        file = os.open(_PLACE, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CameraError(f"{_PLACE}: no shared memory for the camera ({error.strerror})") from error
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        os.close(file)
        raise CameraError(
            f"camera.ring_mb: {size >> 20:,} MiB of shared memory for {slots} exposures cannot be had "
            f"({error.strerror}): keep fewer, or enlarge {_PLACE}"
        ) from error
    return file


def _shared(file: Any, bell: Any, layout: _Layout) -> Ring:
    """The ring of the process that spawned this one."""
    ring = Ring.__new__(Ring)
    ring._file, ring._bell, ring._layout = file.detach(), bell.detach(), layout
    ring._map()
    return ring
