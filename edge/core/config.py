"""The configuration: one TOML file, one tree, units in the names.

An unknown key or a bad value is refused with its path. Paths inside the file are relative to the file.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.core.errors import ConfigError
from edge.core.toml_file import read_toml

Positive = Annotated[float, Meta(ge=1e-6, le=1e6)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
CURVE_KEY = r"^[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}$"
"""A key of ZeroMQ's CURVE, in Z85."""
CurveKey = Annotated[str, Meta(pattern=CURVE_KEY)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AssemblyConfig(_Section, frozen=True):
    """`strip_rows`: rows of web handed on at a time."""

    strip_rows: Annotated[int, Meta(ge=16, le=4096, multiple_of=16)] = 256


class SurfaceConfig(_Section, frozen=True):
    """`solver`: `plain` for webs; `trimmed` for things that stay still: it leaves out at each pixel the lights that
    highlights and shadows mislead, at a small part of the speed."""

    solver: Literal["plain", "trimmed"] = "plain"


class SegmentationConfig(_Section, frozen=True):
    """`model`: ONNX file, None for the shipped one; `window_width_px`: widest window the network sees at once;
    `precision`: of execution, `auto` for the fastest that loses no more than the accuracy budget as the model file
    states it; `backend`: what executes it, `auto` for TensorRT where there is a GPU and an engine for it, otherwise
    OpenVINO, `onnxruntime` for a GPU without TensorRT; `gate`: the network looks only where the web is conspicuous,
    which the model must have learnt."""

    model: Path | None = None
    window_width_px: Annotated[int, Meta(ge=256, le=16384, multiple_of=16)] = 2048
    precision: Literal["auto", "f32", "bf16"] = "auto"
    backend: Literal["auto", "openvino", "tensorrt", "onnxruntime"] = "auto"
    gate: bool = False


class ClassRule(_Section, frozen=True):
    """What of a class is worth reporting: smallest area and smallest peak score."""

    min_area_mm2: Annotated[float, Meta(ge=0, le=1e6)] = 0.2
    min_score: Fraction = 0.0


class DefectsConfig(_Section, frozen=True):
    """`default` for classes without a rule of their own; `classes` by label."""

    default: ClassRule = ClassRule()
    classes: dict[str, ClassRule] = msgspec.field(default_factory=lambda: {"cavity": ClassRule(min_area_mm2=0.03)})

    def rule(self, label: str) -> ClassRule:
        """The rule for a class."""
        return self.classes.get(label, self.default)


class EventsConfig(_Section, frozen=True):
    """`publish`: ZeroMQ address of the PUB socket; `replay`: of the ROUTER socket that gives out past events;
    `heartbeat_s`: how often the last sequence number is told; `keep_mb`: of events kept on disk to be replayed, the
    oldest are deleted beyond (weeks of a line at 1 m/s, which tells what it covered ten times a second).

    `secret_key`: file with the line's own key, None: what systemd hands over as the credential `events.key`, or none;
    beyond this machine events go only with one. `clients`: file with the public keys of those who may listen.
    `line_key`: for who listens with a key of his own under `secret_key`: the line's public key."""

    publish: str = "tcp://127.0.0.1:5570"
    replay: str = "tcp://127.0.0.1:5571"
    heartbeat_s: Positive = 1.0
    keep_mb: Annotated[float, Meta(ge=1, le=1e6)] = 10_000.0
    secret_key: Path | None = None
    clients: Path | None = None
    line_key: CurveKey | None = None


class LightConfig(_Section, frozen=True):
    """One strobed light: how long and how strongly the camera sees it, and which of the camera's user outputs fires it
    (None: the output of the light's own number)."""

    exposure_us: Positive = 20.0
    gain_db: Annotated[float, Meta(ge=0, le=48)] = 0.0
    output: Annotated[int, Meta(ge=0, le=31)] | None = None


class SimulatedConfig(_Section, frozen=True):
    """What the simulated camera looks at: a rendered web of `length_mm`, once or, with `repeats`, spliced to itself for
    ever, at so many `frames_per_s`; `transport`: type of transport layer that the camera is on; `faults`: a script of
    what goes wrong."""

    seed: Annotated[int, Meta(ge=0)] = 2024
    length_mm: Annotated[float, Meta(ge=20, le=5000)] = 250.0
    width_px: Annotated[int, Meta(ge=64, le=16384, multiple_of=4)] = 1024
    density: Literal["dense", "production", "clean"] = "dense"
    frames_per_s: Positive = 50.0
    repeats: bool = False
    transport: Literal["Custom", "GEV", "U3V"] = "Custom"
    faults: Path | None = None


class CameraConfig(_Section, frozen=True):
    """`device`: "simulated", or id, serial number, user-defined name or model of a GenICam camera; `producers`: GenTL
    files (.cti) or folders of them, besides GENICAM_GENTL64_PATH. `width_px` and `height_px` None: those of the
    calibration. `strobe`: who steps through the lights, the camera's `sequencer` or an external `controller` that
    counts triggers; `trigger`: the input that fires an exposure (the encoder's divided pulses). `encoder_mm_per_count`:
    web that passes per count of the encoder. `ring_mb`: of memory for exposures that
    wait to be inspected.
    """

    device: str = ""
    producers: list[Path] = []
    width_px: Annotated[int, Meta(ge=16, le=16384)] | None = None
    height_px: Annotated[int, Meta(ge=8, le=4096)] | None = None
    pixel_format: str = "Mono8"
    trigger: str = "Line1"
    strobe: Literal["sequencer", "controller"] = "sequencer"
    lights: list[LightConfig] = msgspec.field(default_factory=lambda: [LightConfig()] * 4)
    encoder_mm_per_count: Positive = 0.01
    ring_mb: Annotated[float, Meta(ge=0.001, le=1e6)] = 256.0
    simulated: SimulatedConfig = SimulatedConfig()


class ServiceConfig(_Section, frozen=True):
    """`metrics_port`: of this machine's own address, where a line that runs as a service shows its metrics to
    Prometheus; 0: nowhere."""

    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 9570


class MqttConfig(_Section, frozen=True):
    """`host` and `port` of the broker that `foilsight bridge` hands events to; `user` there, with the password in
    `password_file`, None: what systemd hands over as the credential `mqtt.password`, or none. `tls`: encrypted, the
    broker's certificate being checked against those in `ca`, None: those of the system."""

    host: str = ""
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    user: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca: Path | None = None


class Config(_Section, frozen=True):
    """The whole configuration; every key has a default."""

    line: str = "line"
    roll: str = ""
    calibration: Path | None = None
    camera: CameraConfig = CameraConfig()
    assembly: AssemblyConfig = AssemblyConfig()
    surface: SurfaceConfig = SurfaceConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    defects: DefectsConfig = DefectsConfig()
    events: EventsConfig = EventsConfig()
    service: ServiceConfig = ServiceConfig()
    mqtt: MqttConfig = MqttConfig()


def load_config(path: Path | None) -> Config:
    """Read a configuration file; None gives the defaults. Raises ConfigError naming the key."""
    return Config() if path is None else read_toml(path, Config, ConfigError)
