"""Models and calibrations that a line was told to use while it ran, kept so that it uses them when it starts again.

Files lie beside the outbox, named by their SHA-256; `swapped.json` says which are meant. A swap holds for as long as
the configuration names what it named then: who writes another model there means that one.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.core.calibration import Calibration
from edge.core.errors import EventsError, FoilsightError
from edge.segmentation.model import ModelFile, load_model

FOLDER, INDEX = "swapped", "swapped.json"
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """A model and a calibration, by SHA-256."""

    model: Digest
    calibration: Digest


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """`configured`: what the configuration named when `used` was told to be used instead; `before`: what was used
    before that; `shadow`: the model that looks on."""

    version: Literal[1] = 1
    configured: Names
    used: Names
    before: Names | None = None
    shadow: Digest | None = None

    @property
    def digests(self) -> set[str]:
        """All that are named."""
        named = [self.used, *([] if self.before is None else [self.before])]
        digests = {digest for names in named for digest in (names.model, names.calibration)}
        return digests | (set() if self.shadow is None else {self.shadow})


class Shelf:
    """The files of one line, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes, digest: str) -> None:
        """Keep a file. Raises EventsError where there is no room for it."""
        path = self.path(digest)
        try:
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                _write(path, data)
        except OSError as error:
            raise EventsError(f"{path}: cannot be kept ({error.strerror}), nothing was changed") from error

    def mean(self, index: Index) -> None:
        """From now on these are meant; what is not named any more is deleted. Raises EventsError."""
        try:
            _write(self._folder / INDEX, msgspec.json.encode(index))
            for path in (self._folder / FOLDER).iterdir():
                if path.name not in index.digests:
                    path.unlink()
        except OSError as error:
            raise EventsError(f"{self._folder}: what is used cannot be kept there ({error.strerror})") from error

    def index(self) -> Index | None:
        """What was meant last; None where nothing was, or nobody can tell."""
        try:
            return msgspec.json.decode((self._folder / INDEX).read_bytes(), type=Index)
        except (OSError, ValueError, RecursionError):
            return None

    def model(self, digest: str) -> ModelFile:
        """Raises ModelError."""
        return load_model(self.path(digest))

    def calibration(self, digest: str) -> Calibration:
        """Raises CalibrationError."""
        return Calibration.load(self.path(digest))

    def resumed(self, model: ModelFile, calibration: Calibration) -> tuple[ModelFile, Calibration, list[str]]:
        """What is to be used where these are configured, and what must be said of it."""
        index, notes = self.index(), list[str]()
        if index is None:
            return model, calibration, notes
        try:
            if index.configured.model == model.digest != index.used.model:
                model = self.model(index.used.model)
        except FoilsightError as error:
            notes.append(f"the model that was swapped in is lost, the configured one decides: {error}")
        try:
            if index.configured.calibration == calibration.digest != index.used.calibration:
                calibration = self.calibration(index.used.calibration)
        except FoilsightError as error:
            notes.append(f"the calibration that was swapped in is lost, the configured one is used: {error}")
        return model, calibration, notes

    def path(self, digest: str) -> Path:
        """Where a file is kept."""
        return self._folder / FOLDER / digest


def _write(path: Path, data: bytes) -> None:
    """In one step. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
