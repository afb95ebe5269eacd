"""The camera in a process of its own, kept alive: vendor code may hang, crash or lose its device, inspection goes on.

The process takes exposures straight into the ring and shows a heartbeat there. A thread here watches it, and starts
another one whenever it ends or its heart stops.
"""

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Protocol, Self

from edge.camera.ring import CameraState, Ring, RingStatus, RingWriter
from edge.camera.shot import Shot
from edge.core.errors import CameraError, FoilsightError
from edge.core.pauses import Pauses
from edge.core.types import Pixels

FETCH_S = 0.1
"""How long the process waits for an exposure before it shows that it lives."""
SILENCE_S = 2.0
"""After this long without an exposure a camera is without trigger."""
HANG_S = 0.8
OPENING_S = 30.0
"""Hearts that stop for longer are hung processes; while a camera is opened or looked for, vendors take their time."""
STEADY_S = 5.0
"""A process that lived this long is replaced at once, others after a pause."""
PAUSES_S = (0.25, 5.0)
_LOOK_S = 0.05
_PRIORITY = 20
_PR_SET_PDEATHSIG = 1


class Camera(Protocol):
    """What the process needs of a camera; see `GenICamCamera`."""

    @property
    def connected(self) -> bool: ...

    @property
    def underruns(self) -> int: ...

    def start(self) -> None: ...

    def next_into(self, out: Pixels, deadline_s: float) -> Shot | None: ...


OpenCamera = Callable[[], AbstractContextManager[Camera]]
"""Called in the camera process: it must be picklable."""
Report = Callable[[str, str], None]
"""Called with the kind of an alarm and its detail."""


class CameraProcess:
    """Keeps a camera delivering into `ring` from entering the block until leaving it.

    A process that ends or hangs is replaced, for ever: at once, or with growing pauses where none lives long. `report`
    is called from a thread of its own: `camera_crashed`, `camera_hung`, `camera_failed` (with what the camera said),
    `device_lost`, `no_trigger`, and `camera_back` when one of them is over; the same trouble is told once.
    A camera that fails before it has ever delivered or waited for a trigger is not tried again: `check` raises why.
    """

    def __init__(self, ring: Ring, open_camera: OpenCamera, report: Report) -> None:
        self.restarts = 0
        self._ring = ring
        self._open_camera = open_camera
        self._report = report
        self._told_to_stop = threading.Event()
        self._timeout_s = 5.0
        self._error: BaseException | None = None
        self._has_streamed = False
        self._trouble: tuple[str, str] | None = None
        self._trouble_since_s = 0.0
        self._thread = threading.Thread(target=self._supervise, name="camera supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raises CameraError where the camera could not be opened at all, and any fault of the supervision itself."""
        if self._error is not None:
            raise self._error

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the process; one that has not closed its camera in time is killed."""
        self._timeout_s = timeout_s
        self._told_to_stop.set()
        self._thread.join()

    def _supervise(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # for the processes: ctrl-C is the main thread's
        try:
            self._keep_alive()
        except BaseException as error:
            self._error = error
        finally:
            self._ring.ring_bell()

    def _keep_alive(self) -> None:
        pauses, pause_s = Pauses(STEADY_S, *PAUSES_S), 0.0
        while not self._told_to_stop.wait(pause_s):
            began_s = time.monotonic()
            trouble = self._run_once()
            if trouble is None:
                return
            if not self._has_streamed:
                raise CameraError(trouble[1])
            self._tell(*trouble)
            self.restarts += 1
            pause_s = pauses.after(time.monotonic() - began_s)

    def _run_once(self) -> tuple[str, str] | None:
        """One process from its start to its end; None where that was asked for.

        It is started from the thread that watches it: the kernel ends it together with that thread.
        """
        process = multiprocessing.get_context("spawn").Process(
            target=_acquire, args=(RingWriter(self._ring), self._open_camera, os.getpid()), name="camera", daemon=True
        )
        try:
            process.start()
        except OSError as error:
            return "camera_crashed", f"the camera process cannot be started ({error.strerror})"
        try:
            return self._watch(process)
        finally:
            _kill(process)

    def _watch(self, process: BaseProcess) -> tuple[str, str] | None:
        looks, heartbeat_ns = 0, 0
        while not wait([process.sentinel], _LOOK_S):
            if self._told_to_stop.is_set():
                process.terminate()
                process.join(self._timeout_s)
                return None
            status = self._ring.status()
            self._follow(status)
            looks = looks + 1 if status.heartbeat_ns == heartbeat_ns else 0
            heartbeat_ns = status.heartbeat_ns
            quiet_s = looks * _LOOK_S  # by looks, not by the clock: somebody may have stopped us both
            if quiet_s > (HANG_S if status.state in ("streaming", "no trigger") else OPENING_S):
                return "camera_hung", f"the camera process hung while {status.state}: killed after {quiet_s:.1f} s"
        process.join()
        if self._told_to_stop.is_set():
            return None
        status = self._ring.status()
        self._follow(status)
        if status.state == "failed":
            return "camera_failed", status.detail
        return "camera_crashed", f"the camera process ended while {status.state} ({_how(process)})"

    def _follow(self, status: RingStatus) -> None:
        """Tell of what the process itself has noticed."""
        if status.state == "device lost":
            self._tell("device_lost", status.detail)
        elif status.state == "no trigger":
            self._has_streamed = True
            self._tell("no_trigger", status.detail)
        elif status.state == "streaming":
            self._has_streamed = True
            if self._trouble is not None:
                seconds = time.monotonic() - self._trouble_since_s
                self._report("camera_back", f"the camera streams again after {seconds:.1f} s")
                self._trouble = None

    def _tell(self, kind: str, detail: str) -> None:
        if self._trouble is None:
            self._trouble_since_s = time.monotonic()
        if self._trouble != (kind, detail):
            self._trouble = (kind, detail)
            self._report(kind, detail)


def _kill(process: BaseProcess) -> None:
    """Whatever it does. One that the kernel cannot end is stuck in a driver and will not touch the ring again."""
    process.kill()
    process.join(2.0)


def _how(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _acquire(writer: RingWriter, open_camera: OpenCamera, parent: int) -> None:
    """The camera process."""
    _die_with(parent)
    terminated = threading.Event()

    def on_sigterm(_number: int, _frame: FrameType | None) -> None:
        terminated.set()

    signal.signal(signal.SIGTERM, on_sigterm)
    writer.say_scheduling(_ask_for_real_time())
    try:
        with open_camera() as camera:
            camera.start()
            _stream(camera, writer, terminated)
    except FoilsightError as error:
        writer.say("failed", str(error))
    except Exception as error:
        writer.say("failed", f"{type(error).__name__}: {error}")
        raise


def _stream(camera: Camera, writer: RingWriter, terminated: threading.Event) -> None:
    state: CameraState = "streaming"
    writer.say(state)
    heard_s = counted_s = time.monotonic()
    while not terminated.is_set():
        writer.beat()
        shot = camera.next_into(writer.slot(), FETCH_S)
        now_s = time.monotonic()
        before = state
        if not camera.connected:
            state = "device lost"
        elif shot is not None or before == "device lost":
            state, heard_s = "streaming", now_s
        elif now_s - heard_s > SILENCE_S:
            state = "no trigger"
        if state != before:
            if before == "device lost":
                writer.new_run()
            writer.say(state, _DETAILS.get(state, ""))
        if shot is not None:
            writer.commit(shot)
        if now_s - counted_s > 1.0:
            writer.count_underruns(camera.underruns)
            counted_s = now_s


_DETAILS: dict[CameraState, str] = {
    "device lost": "the camera does not answer any more: it is being looked for",
    "no trigger": f"no exposure for {SILENCE_S:g} s: the web stands, or the trigger does not reach the camera",
}


def _die_with(parent: int) -> None:
    """Have the kernel kill this process with the one that started it, however that ends and whatever hangs here."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _ask_for_real_time() -> str:
    """Run before everything that is not real time, on whichever core is free; says what came of it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except OSError as error:
        return f"normal: SCHED_FIFO is not allowed here ({error.strerror})"
    return f"SCHED_FIFO {_PRIORITY}"
