"""`--keep`: whole planes of a replay written to disk as they pass, so that a long roll does not fill memory."""

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from edge.core.types import F32, ClassMap, Surface
from edge.service.pictures import palette

_PALETTE = palette(256)[:, ::-1].tobytes()


class SurfaceKeeper:
    """Writes `normals.npy` (3, H, W), `albedo.npy` and `residual.npy` (H, W), all f32, into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shapes: list[tuple[int, int]] = []
        self._parts = [folder / f".{name}.part" for name in ("x", "y", "z", "albedo", "residual")]
        self._files: list[IO[bytes]] = [part.open("wb") for part in self._parts]

    def add(self, surface: Surface) -> None:
        """Append a strip."""
        self._shapes.append(surface.albedo.shape)
        for file, plane in zip(self._files, (*surface.normals, surface.albedo, surface.residual), strict=True):
            file.write(np.ascontiguousarray(plane).data)

    def close(self) -> None:
        """Put the planes together and remove the parts."""
        for file in self._files:
            file.close()
        if self._shapes:
            rows, width = sum(shape[0] for shape in self._shapes), self._shapes[0][1]
            self._join("normals.npy", self._parts[:3], (3, rows, width))
            self._join("albedo.npy", self._parts[3:4], (rows, width))
            self._join("residual.npy", self._parts[4:], (rows, width))
        for part in self._parts:
            part.unlink()

    def _join(self, name: str, parts: list[Path], shape: tuple[int, ...]) -> None:
        whole: F32 = np.lib.format.open_memmap(self._folder / name, "w+", np.float32, shape)
        planes = whole.reshape(len(parts), -1, shape[-1])
        for plane, part in zip(planes, parts, strict=True):
            plane[:] = np.memmap(part, np.float32, "r", shape=plane.shape)


class ClassKeeper:
    """Writes `classes.png`: an indexed image whose pixel values are class indices."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "classes.png").open("wb")
        self._packer = zlib.compressobj(3)
        self._rows = 0
        self._width = 0

    def add(self, class_map: ClassMap) -> None:
        """Append a strip."""
        if self._rows == 0:
            self._width = class_map.class_index.shape[1]
            self._file.write(b"\x89PNG\r\n\x1a\n" + self._header())
            self._file.write(_chunk(b"PLTE", _PALETTE))
        self._rows += class_map.rows
        unfiltered = np.pad(class_map.class_index, ((0, 0), (1, 0)))
        self._file.write(_chunk(b"IDAT", self._packer.compress(unfiltered.tobytes())))

    def close(self) -> None:
        """Finish the image, now that its height is known."""
        if self._rows:
            self._file.write(_chunk(b"IDAT", self._packer.flush()) + _chunk(b"IEND", b""))
            self._file.seek(8)
            self._file.write(self._header())
        self._file.close()

    def _header(self) -> bytes:
        indexed = 3
        return _chunk(b"IHDR", struct.pack(">IIBBBBB", self._width, self._rows, 8, indexed, 0, 0, 0))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
