"""`foilsight doctor`: is this machine fit to inspect, and if not, what is to be done."""

import errno
import multiprocessing
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from ctypes import CDLL
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from edge.core.calibration import Calibration
from edge.core.config import CameraConfig, Config, load_config
from edge.core.errors import CalibrationError, ConfigError, FoilsightError
from edge.events.guard import leaves_this_machine
from edge.service import machine
from edge.service.keys import line_keys
from edge.service.line import SIMULATED, cache_folder
from edge.service.machine import ROOT, Finding

STATE = Path("/var/lib/foilsight")
CAMERA_PRIORITY = 20
"""What the camera process asks for."""
_PRODUCERS, _CAMERA, _NETWORK = "producers", "camera", "network"
_ANSWER_S = 60.0
_PITCH_MM, _OVERLAP = 0.05, 8
"""Where no calibration says otherwise; every point of the web is on so many frames."""
_VARIABLE = "GENICAM_GENTL64_PATH"

ConfigFile = Annotated[Path | None, Parameter(name="--config")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


def doctor(*, config: ConfigFile = None, state: Path = STATE, json: Json = False) -> int:
    """Look whether this machine is fit to inspect. The exit code is 1 where anything fails.

    Parameters
    ----------
    config
        Configuration (TOML) of the line.
    state
        Folder that events and recordings are to be kept in.
    json
        Print the findings as one JSON array and nothing else.
    """
    findings = list(examine(load_config(config), state))
    if json:
        print(msgspec.json.encode(findings).decode())
    else:
        print_findings(findings)
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def examine(config: Config, state: Path, root: Path = ROOT) -> Iterator[Finding]:
    """Everything there is to look at, in the order of the data."""
    camera = config.camera
    calibration: Calibration | None = None
    simulated = camera.device == SIMULATED
    if simulated:
        yield compiler()
    else:
        yield from producers(camera.producers)
        found, is_gige = cameras(camera)
        yield found
        if is_gige:
            yield machine.network_cards(root)
            yield machine.receive_buffer(root)
        found, calibration = calibrated(config.calibration)
        yield found
    yield network(config)
    yield machine.governor(root)
    yield machine.cores(len(os.sched_getaffinity(0)))
    yield machine.memory_lock(camera.ring_mb, root)
    yield machine.real_time(CAMERA_PRIORITY, root)
    yield machine.shared_memory(camera.ring_mb, root)
    yield machine.folder("state folder", state)
    yield machine.folder("cache folder", cache_folder())
    yield machine.free_space(state, config.events.keep_mb)
    yield machine.disk_speed(state, web_mb_per_m(config, calibration))
    yield machine.clock()
    yield from ports(config)
    yield listeners(config)


def print_findings(findings: Sequence[Finding]) -> None:
    """The table, worst words in colour, and what to do under what was found."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=False)
    for column in ("", "check", "found"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for finding in findings:
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n{finding.advice}", style="italic")
        table.add_row(Text(finding.level, style=colours[finding.level]), finding.check, found)
    Console().print(table)


def compiler() -> Finding:
    """Whether the simulated camera can be compiled."""
    wanted = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    found = next((path for path in map(shutil.which, filter(None, wanted)) if path), None)
    if found is None:
        return Finding("C compiler", "fail", "none, and the simulated camera wants one", "apt install gcc")
    return Finding("C compiler", "ok", found)


def producers(configured: Sequence[Path]) -> Iterator[Finding]:
    """Whether every GenTL producer that is named, here or by GENICAM_GENTL64_PATH, is there and loads."""
    folders = [Path(folder) for folder in os.environ.get(_VARIABLE, "").split(os.pathsep) if folder]
    named = [*configured, *folders]
    if not named:
        advice = f"name the .cti of the camera's maker in camera.producers or {_VARIABLE}"
        yield Finding(_PRODUCERS, "fail", "none is named", advice)
    for path in named:
        files = sorted(path.glob("*.cti")) if path.is_dir() else [path]
        if not files:
            yield Finding(
                _PRODUCERS, "fail", f"{path}: no .cti in this folder", "install the maker's software, or mend the path"
            )
        for file in files:
            problem = apart(_load, file)
            if problem:
                yield Finding(_PRODUCERS, "fail", f"{file}: {problem}", "install the maker's software for this system")
            else:
                yield Finding(_PRODUCERS, "ok", f"{file}")


def _load(file: Path) -> str:
    """What is wrong with a producer, or nothing."""
    try:
        library = CDLL(str(file))
    except OSError as error:
        return " ".join(str(error).split())
    return "" if hasattr(library, "GCInitLib") else "is no GenTL producer"


def cameras(config: CameraConfig) -> tuple[Finding, bool]:
    """Whether the configured camera answers, and whether one that does is on Ethernet."""
    answer = apart(_devices, config.producers)
    if isinstance(answer, str):
        return Finding(_CAMERA, "fail", answer, "see the producers; is the camera in use by another program?"), False
    is_gige = any(transport.startswith(("GEV", "GigE")) for _, _, transport in answer)
    listed = "; ".join(text for text, _, _ in answer) or "the producers see no camera"
    matching = [text for text, names, _ in answer if config.device in names]
    if not config.device:
        return Finding(_CAMERA, "fail", f"camera.device is not set; found: {listed}", "name one of them"), is_gige
    if len(matching) != 1:
        advice = "power, cable, and on Ethernet an address of the card's network; then  foilsight cameras"
        return Finding(_CAMERA, "fail", f'"{config.device}" means {len(matching)}; found: {listed}', advice), is_gige
    return Finding(_CAMERA, "ok", matching[0]), is_gige


def _devices(paths: Sequence[Path]) -> list[tuple[str, tuple[str, ...], str]] | str:
    from edge.camera.genicam import discover

    try:
        return [(str(device), device.answers_to, device.transport) for device in discover(paths)]
    except FoilsightError as error:
        return str(error)


def calibrated(path: Path | None) -> tuple[Finding, Calibration | None]:
    """Whether the calibration can be read."""
    if path is None:
        advice = "foilsight calibrate, then name its file under calibration"
        return Finding("calibration", "fail", "none is named", advice), None
    try:
        calibration = Calibration.load(path)
    except CalibrationError as error:
        return Finding("calibration", "fail", str(error), "foilsight calibrate show  tells more of a good one"), None
    return Finding("calibration", "ok", f"{path}, {calibration.width} x {calibration.height} px"), calibration


def network(config: Config) -> Finding:
    """Whether the model opens, and what executes it."""
    answer = apart(_backend, config)
    if isinstance(answer, str):
        return Finding(_NETWORK, "fail", answer, "segmentation.model of the configuration; foilsight engine check")
    name, notes = answer
    if notes:
        return Finding(_NETWORK, "warn", f"{name}; {'; '.join(notes)}", "foilsight engine build")
    return Finding(_NETWORK, "ok", name)


def _backend(config: Config) -> tuple[str, list[str]] | str:
    from edge.segmentation.model import load_model
    from edge.service.backends import open_backend

    try:
        backend, notes = open_backend(load_model(config.segmentation.model), config)
    except FoilsightError as error:
        return str(error)
    return f"{backend.name}, {backend.precision}", notes


def ports(config: Config) -> Iterator[Finding]:
    """Whether the addresses of events and metrics are to be had."""
    metrics = config.service.metrics_port
    addresses = {"events.publish": config.events.publish, "events.replay": config.events.replay}
    if metrics:
        addresses["service.metrics_port"] = f"tcp://127.0.0.1:{metrics}"
    for key, address in addresses.items():
        parts = urlsplit(address)
        if parts.scheme != "tcp" or parts.port is None:
            continue
        host = "0.0.0.0" if parts.hostname in (None, "*") else parts.hostname
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((host, parts.port))
            except OSError as error:
                found = f"{key} = {address}: {error.strerror}"
                if error.errno == errno.EADDRINUSE:
                    advice = "no matter where it is this very line that runs; else another port for each camera"
                    yield Finding("port", "warn", found, advice)
                else:
                    yield Finding("port", "fail", found, "an address of this machine, 127.0.0.1 where in doubt")
            else:
                yield Finding("port", "ok", f"{key} = {address}")


def listeners(config: Config) -> Finding:
    """Whether events stay on this machine, or leave it for known keys."""
    try:
        keys = line_keys(config.events)
    except ConfigError as error:
        return Finding("listeners", "fail", str(error), "foilsight keys; for the service, deploy/drop-ins/keys.conf")
    if keys is not None:
        return Finding("listeners", "ok", "with known keys only")
    for address in (config.events.publish, config.events.replay):
        if leaves_this_machine(address):
            advice = "foilsight keys make, then events.secret_key, or for the service deploy/drop-ins/keys.conf"
            return Finding("listeners", "fail", f"{address} is open to other machines, and there is no key", advice)
    return Finding("listeners", "ok", "on this machine only")


def web_mb_per_m(config: Config, calibration: Calibration | None) -> float:
    """What a metre of web makes when it is recorded."""
    if calibration is not None:
        width, pitch_mm = calibration.width, calibration.pitch_mm or _PITCH_MM
    else:
        width, pitch_mm = config.camera.width_px or config.camera.simulated.width_px, _PITCH_MM
    bytes_per_pixel = 1 if config.camera.pixel_format.endswith("8") else 2
    return _OVERLAP * width * bytes_per_pixel * 1000 / pitch_mm / 1e6


def apart(ask: Callable[[Any], Any], about: Any) -> Any:
    """What `ask` answers in a process of its own, which a vendor's code may hang or crash; then a sentence."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_answer, args=(there, ask, about), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(_ANSWER_S):
            return f"no answer within {_ANSWER_S:.0f} s"
        return here.recv()
    except EOFError:
        process.join()
        return f"crashed when it was asked (exit code {process.exitcode})"
    finally:
        process.kill()
        process.join()
        here.close()


def _answer(out: Connection, ask: Callable[[Any], Any], about: Any) -> None:
    out.send(ask(about))
