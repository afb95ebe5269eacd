"""An inspection as one writes it in an afternoon: NumPy for registration and normals, eager PyTorch for the network,
OpenCV for components. Whole advances only, no ledger, no events, no faults; it is spared all that.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.numpy_helper import to_array
from torch import nn

from calibration.network.unet import HALO, UNet
from edge.core.calibration import Calibration
from edge.core.types import U8, Frame
from edge.segmentation.model import ModelFile


def network_of(model: ModelFile) -> UNet:
    """The network of a model file: its weights, batch norm being folded into its convolutions."""
    weights = {each.name: to_array(each).copy() for each in onnx.load_from_string(model.data).graph.initializer}
    features = weights["network.down.0.0.weight"].shape[0]
    network = UNet(len(model.info.channels), len(model.info.classes), features)
    for level in (*network.down, *network.merge):
        for at in (0, 3):
            old = level[at]
            level[at] = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1)
            level[at + 1] = nn.Identity()
    state = {name.removeprefix("network."): torch.from_numpy(each) for name, each in weights.items() if "." in name}
    mean, std = (torch.from_numpy(weights[name].ravel()) for name in ("unsqueeze_1", "unsqueeze_3"))
    network.load_state_dict({**state, "mean": mean, "std": std})
    return network.eval()


class EagerRival:
    """Strips of `rows` web rows; `push` frames, in the order and at the advance of the line, then `finish`."""

    def __init__(self, calibration: Calibration, model: ModelFile, rows: int) -> None:
        assert calibration.flat is not None and calibration.dark is not None and calibration.pitch_mm is not None
        self._calibration, self._model, self._rows = calibration, model, rows
        self._network = network_of(model)
        self._dark = calibration.dark
        self._gain = 1.0 / (calibration.flat - calibration.dark)
        g = calibration.light_directions / calibration.light_directions[:, 2:]
        self._inverse = np.linalg.pinv(g.transpose(2, 0, 1)).transpose(1, 2, 0).astype(np.float32)
        self._frames: list[Frame] = []
        self._surface: list[NDArray[np.float32]] = []
        self._first, self._done = 0, 0
        self.classes: list[U8] = []
        self.components: list[NDArray[np.int32]] = []

    def run(self, frames: Sequence[Frame]) -> U8:
        """Classes (rows, w) of the web, components being counted on the way."""
        for first, strip in self._strips(frames):
            self._surface.append(self._normals(strip))
            self._segment(first + strip.shape[1], last=False)
        self._segment(self._end(frames), last=True)
        return np.concatenate(self.classes)

    def _end(self, frames: Sequence[Frame]) -> int:
        pitch = self._calibration.pitch_mm or 1.0
        return round((frames[-1].encoder_mm - frames[0].encoder_mm) / pitch) + self._calibration.height

    def _strips(self, frames: Sequence[Frame]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and planes (n, rows, w): every row from the frame of its light that has it nearest the middle."""
        height, pitch = self._calibration.height, self._calibration.pitch_mm or 1.0
        offsets = np.array([round((frame.encoder_mm - frames[0].encoder_mm) / pitch) for frame in frames])
        lights = np.array([frame.light for frame in frames])
        for first in range(0, self._end(frames), self._rows):
            rows = min(self._rows, self._end(frames) - first)
            planes = np.zeros((self._calibration.lights, rows, self._calibration.width), np.float32)
            for light in range(self._calibration.lights):
                near = np.flatnonzero((lights == light) & (offsets > first - height) & (offsets < first + rows))
                if not near.size:
                    continue
                web_rows = first + np.arange(rows)
                away = np.abs(web_rows[:, None] - offsets[near] - (height - 1) / 2)
                best = near[away.argmin(axis=1)]
                for index in np.unique(best):
                    source = web_rows - offsets[index]
                    here = np.flatnonzero((best == index) & (source >= 0) & (source < height))
                    source = source[here]
                    pixels = frames[index].pixels[source].astype(np.float32)
                    planes[light, here] = (pixels - self._dark[light, source]) * self._gain[light, source]
            yield first, planes

    def _normals(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's channels (3, rows, w): n_x, n_y, albedo."""
        b = np.einsum("ikw,krw->irw", self._inverse, planes)
        albedo = np.linalg.norm(b, axis=0)
        safe = np.maximum(albedo, 1e-6)
        return np.stack([b[0] / safe, b[1] / safe, np.where(albedo > 0, albedo, 1.0)]).astype(np.float32)

    def _segment(self, filled: int, last: bool) -> None:
        """Decide what has its halo by now."""
        ready = filled if last else filled - HALO
        ready -= 0 if last else ready % 16
        if ready <= self._done:
            return
        start = max(0, self._done - HALO)
        whole = np.concatenate(self._surface, axis=1)
        window = whole[:, start - self._first : filled - self._first]
        padded = np.pad(window, ((0, 0), (0, -window.shape[1] % 16), (0, -window.shape[2] % 16)), mode="edge")
        with torch.inference_mode():
            p = torch.softmax(self._network(torch.from_numpy(padded[None])), dim=1)[0]
            limits = torch.tensor(self._model.info.thresholds)[:, None, None]
            sure = torch.where(p[1:] >= limits, p[1:], 0)
            best, index = sure.max(dim=0)
            classes = torch.where(best > 0, index + 1, 0).numpy().astype(np.uint8)
        here = classes[self._done - start : ready - start, : window.shape[2]]
        self.classes.append(here)
        for label in range(1, len(self._model.info.classes)):
            mask = (here == label).astype(np.uint8)
            self.components.append(cv2.connectedComponentsWithStats(mask, connectivity=8)[2])
        self._done = ready
        keep = max(0, self._done - HALO)
        self._surface, self._first = [whole[:, keep - self._first :]], keep
