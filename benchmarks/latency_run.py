"""One run of the latency benchmark: the line behind the simulated camera at a web speed, and who hears its events."""

import gc
import math
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socket

import msgspec
import numpy as np

from edge.camera.live import LiveCamera
from edge.core.config import CameraConfig, Config
from edge.core.types import Alarm, Coverage, Defect, Frame
from edge.events.outbox import Outbox
from edge.events.publisher import EventWriter
from edge.events.subscriber import Gap, Subscriber
from edge.pipeline.inspection import Inspection
from edge.pipeline.passage import Passage
from edge.segmentation.model import load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.service.line import Line, configured_line
from edge.simulation.camera import Motion, Rig

ADVANCE_MM, FRAME_MM = Motion().advance_px * 0.05, Rig().height_px * 0.05
WARM_S = 3.0
STAGES = ("camera", "assembly, surface", "wait", "segmentation", "wait for defects", "defects, outbox, publish")
COMPUTING = ("assembly, surface", "segmentation", "defects, outbox, publish")


class Stamped(Inspection):
    """The line, noting where its frames lay and when they were exposed (mm, ns, light), and when what was sent passed
    from stage to stage: exposed, read, solved, then the beginning and end of segmentation and of defects (ns)."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.frames: list[tuple[float, int, int]] = []
        self._sent: list[tuple[int, ...] | None] = []
        self._worked: dict[str, list[tuple[int, int]]] = {"segmentation": [], "defects": []}
        self._hand_on = self._stages.send
        self._stages.send = self._sending  # type: ignore[method-assign]

    def push(self, frame: Frame) -> None:
        self.frames.append((frame.encoder_mm, frame.exposed_ns, frame.light))
        super().push(frame)

    def _sending(self, slot: Passage) -> None:
        stamps = self.frames[-1][1], slot.read_ns, time.monotonic_ns()
        self._sent.append(stamps if slot.surface is not None else None)
        self._hand_on(slot)

    def _took(self, stage: str, seconds: float) -> None:
        now_ns = time.monotonic_ns()
        if stage in self._worked:
            self._worked[stage].append((now_ns - round(1e9 * seconds), now_ns))
        super()._took(stage, seconds)

    def stages_ms(self, begun_ns: int) -> dict[str, float]:
        """Median time of the strips in each stage, of those exposed after a time."""
        strips = [
            (*sent, *segmented, *told)
            for sent, segmented, told in zip(self._sent, *self._worked.values(), strict=True)
            if sent is not None and sent[0] > begun_ns
        ]
        stamps = np.array(strips, np.int64).reshape(-1, len(STAGES) + 1)
        steps = np.diff(np.maximum.accumulate(stamps, axis=1), axis=1) / 1e6
        return dict(zip(STAGES, np.median(steps, axis=0).tolist(), strict=True)) if len(steps) else {}


@dataclass
class Told:
    """What is kept of the events: how many, of defects opened number and end (mm), and what was degraded. Who kept
    them whole would have them all looked at whenever Python collects its garbage, which the line does not."""

    events: int = 0
    opened: list[tuple[int, float]] = field(default_factory=list)
    degraded_mm: list[tuple[float, float]] = field(default_factory=list)
    end_mm: float = 0.0

    def add(self, bodies: Sequence[Defect | Coverage | Alarm]) -> None:
        """In the order in which they were published."""
        for seq, body in enumerate(bodies, self.events + 1):
            if isinstance(body, Defect) and body.phase == "opened":
                self.opened.append((seq, body.box_mm[3]))
            elif isinstance(body, Coverage):
                self.end_mm = max(self.end_mm, body.to_mm)
                if body.state == "degraded":
                    self.degraded_mm.append((body.from_mm, body.to_mm))
        self.events += len(bodies)

    def rows_at_ends(self, pitch_mm: float) -> int:
        """Degraded rows at the ends of the roll, where not all lights can have been."""
        at_ends = [(begin, end) for begin, end in self.degraded_mm if begin < FRAME_MM or end > self.end_mm - FRAME_MM]
        return round(sum(end - begin for begin, end in at_ends) / pitch_mm)


@dataclass
class Heard:
    """A subscriber in a process of its own: when each event arrived."""

    publish: str
    replay: str
    _pipe: Connection = field(init=False)

    def __enter__(self) -> "Heard":
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_listen, args=(self.publish, self.replay, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()
        return self

    def until(self, last_seq: int) -> dict[int, int]:
        """Arrival (ns) by number, when the last one has come."""
        self._pipe.send(last_seq)
        arrived: dict[int, int] = self._pipe.recv()
        return arrived

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self._process.join()


def _listen(publish: str, replay: str, pipe: Connection) -> None:
    arrived: dict[int, int] = {}
    stop = threading.Event()

    def end() -> None:
        last_seq = pipe.recv()
        while last_seq not in arrived:
            time.sleep(0.01)
        stop.set()

    with Subscriber(publish, replay, stop=stop) as events:
        pipe.send("listening")
        threading.Thread(target=end, daemon=True).start()
        for event in events:
            if not isinstance(event, Gap):
                arrived[event.seq] = time.monotonic_ns()
    pipe.send(arrived)


@dataclass(frozen=True)
class Run:
    """What one speed gave. `ms` (m,) of each defect opened, in the order of the web; exposures lost, and rows that were
    degraded or not inspected inside the roll; `stages_ms` median of each; `strip_ms` and `halo_ms`: in which the web
    moves on by a strip, and by the network's halo; `seconds` measured."""

    speed_m_per_min: float
    ms: list[float]
    events: int
    lost_exposures: int
    rows_not_whole: int
    rows: int
    stages_ms: dict[str, float]
    strip_ms: float
    halo_ms: float
    cores: float
    rss_mb: float
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether every row was seen under all lights and inspected."""
        return self.rows_not_whole == 0 and self.lost_exposures == 0 and bool(self.ms)

    def percentiles(self) -> dict[str, float]:
        """p50, p99, p99.9 and the most, in ms."""
        at = {"p50": 50, "p99": 99, "p99.9": 99.9, "max": 100}
        return {name: float(np.percentile(self.ms, percent)) for name, percent in at.items()}

    @property
    def computing_ms(self) -> float:
        """What a strip is computed in, without waits."""
        return sum(self.stages_ms.get(stage, 0.0) for stage in COMPUTING)

    @property
    def mm_per_ms(self) -> float:
        """How far the web moves."""
        return self.speed_m_per_min / 60


def measured(config: Config, speed_m_per_min: float, seconds: float) -> Run:
    """The line at a web speed for so long, behind some seconds that do not count."""
    frames_per_s = speed_m_per_min * 1000 / 60 / ADVANCE_MM
    simulated = msgspec.structs.replace(config.camera.simulated, frames_per_s=frames_per_s, repeats=True)
    camera = msgspec.structs.replace(config.camera, device="simulated", simulated=simulated)
    endpoints = [f"tcp://127.0.0.1:{port}" for port in _free_ports(2)]
    told = Told()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foilsight-latency-")))
        line = stack.enter_context(configured_line(msgspec.structs.replace(config, camera=camera), quiet=True))
        model = load_model(config.segmentation.model)
        backend = OpenVinoBackend(model, config.segmentation.precision)
        outbox = stack.enter_context(Outbox(folder / "outbox.sqlite"))
        origin = {"line": "line", "roll": "", "model": model.digest, "calibration": line.calibration.digest}
        writer = EventWriter(outbox, endpoints[0], 1.0, replay_endpoint=endpoints[1], **origin)
        stack.enter_context(writer)
        heard = stack.enter_context(Heard(*endpoints))

        def publish(bodies: Sequence[Defect | Coverage | Alarm]) -> None:
            writer.publish(*bodies)
            told.add(bodies)

        arguments = (line.calibration, model.info, backend, config, publish)
        inspection = stack.enter_context(Stamped(*arguments))
        gc.collect()
        gc.freeze()
        took_s, cores, lost = _run(inspection, line, camera, WARM_S + seconds)
        inspection.finish()
        arrived = heard.until(told.events)
    begun_ns = inspection.frames[0][1] + int(WARM_S * 1e9)
    ms_per_row = inspection.axes.row_mm / (speed_m_per_min / 60)
    not_whole = inspection.totals.degraded + inspection.totals.uninspected - told.rows_at_ends(inspection.axes.row_mm)
    return Run(
        speed_m_per_min=speed_m_per_min,
        ms=latencies_ms(told.opened, arrived, inspection.frames, begun_ns),
        events=told.events,
        lost_exposures=lost,
        rows_not_whole=max(0, not_whole),
        rows=inspection.totals.rows,
        stages_ms=inspection.stages_ms(begun_ns),
        strip_ms=config.assembly.strip_rows * ms_per_row,
        halo_ms=model.info.halo * ms_per_row,
        cores=cores,
        rss_mb=_resident_mb(),
        seconds=took_s - WARM_S,
    )


def _run(inspection: Stamped, line: Line, camera: CameraConfig, seconds: float) -> tuple[float, float, int]:
    """Inspect what the camera sees for so long; the time it took, cores it kept busy, exposures that were lost."""
    end_s = [math.inf]
    with LiveCamera(camera, line.calibration, line.open_camera, lambda _kind, _detail: None) as live:
        frames = live.frames(lambda: time.monotonic() > end_s[0])
        inspection.push(next(frames))
        begun_s, busy_s = time.monotonic(), time.process_time()
        end_s[0] = begun_s + seconds
        for frame in frames:
            inspection.push(frame)
        took_s = time.monotonic() - begun_s
        cores = (time.process_time() - busy_s) / took_s
        return took_s, cores, live.counts.overwritten + inspection.frame_counts.lost


def latencies_ms(
    opened: Sequence[tuple[int, float]],
    arrived: dict[int, int],
    frames: Sequence[tuple[float, int, int]],
    begun_ns: int,
) -> list[float]:
    """Of the defects opened (number of the event, end in mm): from the last strobe that lit their last row to their
    arrival."""
    places = np.array([place for place, _, _ in frames]) - frames[0][0] + FRAME_MM / 2
    exposed, lights = (np.array([frame[at] for frame in frames]) for at in (1, 2))
    latencies = []
    for seq, end_mm in opened:
        nearest = [
            exposed[lights == light][np.abs(places[lights == light] - end_mm).argmin()] for light in np.unique(lights)
        ]
        if seq in arrived and min(nearest) > begun_ns:
            latencies.append((arrived[seq] - max(nearest)) / 1e6)
    return latencies


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
