"""Orders as `foilsight swap` sends them, to one who takes them for a line that stands still."""

import atexit
import socket
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from edge.core.calibration import Calibration
from edge.core.errors import ConfigError
from edge.service.control import CONTROL, Answer, ControlServer, Order

_PATIENCE_S = 20.0


def orders() -> list[bytes]:
    """One of each kind."""
    given = [
        Order(do="show"),
        Order(do="swap", model="/nowhere/new.onnx"),
        Order(do="swap", model="/dev/null", calibration="/nowhere/line.zip"),
        Order(do="back"),
        Order(do="shadow", model="/nowhere/new.onnx"),
        Order(do="shadow"),
        Order(do="promote"),
    ]
    return [msgspec.json.encode(order) for order in given]


def use_order(path: Path) -> None:
    """Send it, and one that must be taken after it. What was understood was taken, whatever the line makes of it."""
    refused = _answer(path.read_bytes()).refused
    assert _answer(orders()[0]).standing is not None
    if refused.startswith("not an order"):
        raise ConfigError(f"{path}: {refused}")


def _answer(data: bytes) -> Answer:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_PATIENCE_S)
        connection.connect(_line())
        connection.send(data or b" ")  # a datagram of no bytes is the end of the connection
        return msgspec.json.decode(connection.recv(1 << 16), type=Answer)


@cache
def _line() -> str:
    """Where a line takes orders until this process ends."""
    from edge.core.config import Config
    from edge.segmentation.model import load_model
    from edge.service.shelf import Names, Shelf
    from edge.service.swapping import Swapper

    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    model, calibration = load_model(None), _calibration()
    names = Names(model=model.digest, calibration=calibration.digest)
    inspection: Any = SimpleNamespace(model=None, calibration=SimpleNamespace(calibration=calibration))
    swapper = Swapper(inspection, Config(), Shelf(folder), model, names, "openvino", lambda change: change.row)
    stack.callback(ControlServer(folder / CONTROL, swapper.obey).close)
    return str(folder / CONTROL)


def _calibration() -> Calibration:
    directions = np.repeat(np.array([[0.6, 0, 0.8], [0, 0.6, 0.8], [-0.6, 0, 0.8]])[:, :, None], 4, axis=2)
    return Calibration(4, 4, directions, directions * 0, None, None, 255.0, 0.05, 1, "made to break")
