"""Engines on disk: each made once, for one model, one library and one GPU, by `foilsight engine build`.

An engine is a file named by the digest of all that it was made for, with a sidecar (JSON) that says it in words. It is
written beside its place and moved there, under a lock, and read with its digest checked: a torn one is a miss.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from edge.core.errors import ModelError
from edge.core.reading import one_line

ENGINE, SIDECAR = ".engine", ".json"


class MadeFor(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine was made for; it serves nothing else.

    `model`: SHA-256 of the ONNX file; `library`: "tensorrt" or "tensorrt-rtx"; `gpu` with its `capability` and
    `driver`, or what the library's portable engines say instead; `rows`, `columns`: largest window, which is also the
    one it was tuned for.
    """

    model: str
    library: str
    version: str
    gpu: str
    capability: str
    driver: str
    precision: str
    rows: int
    columns: int

    @property
    def key(self) -> str:
        """Digest in hexadecimal of all of it."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:32]


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine's file says of itself: `path` of the model as it was given, `digest` of the engine (SHA-256)."""

    made_for: MadeFor
    path: str
    made_utc: str
    seconds: float
    size: int
    digest: str

    @classmethod
    def of(cls, made_for: MadeFor, path: Path, made_utc: str, seconds: float, data: bytes) -> Self:
        """For an engine's bytes."""
        return cls(
            made_for=made_for,
            path=str(path),
            made_utc=made_utc,
            seconds=round(seconds, 3),
            size=len(data),
            digest=hashlib.sha256(data).hexdigest(),
        )


@dataclass(frozen=True)
class Miss:
    """No engine, and why."""

    reason: str


class EngineCache:
    """The engines in one folder. Raises ModelError where it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, made_for: MadeFor) -> bytes | Miss:
        """The engine for this, or why there is none."""
        engine = self._engine(made_for)
        try:
            sidecar = msgspec.json.decode(engine.with_suffix(SIDECAR).read_bytes(), type=Sidecar)
            data = engine.read_bytes()
        except FileNotFoundError:
            return Miss(self._nearest(made_for))
        except (OSError, msgspec.MsgspecError) as error:
            return Miss(f"{engine}: cannot be read ({one_line(error)})")
        if hashlib.sha256(data).hexdigest() != sidecar.digest or sidecar.made_for != made_for:
            return Miss(f"{engine}: is damaged")
        return data

    def store(self, sidecar: Sidecar, data: bytes) -> Path:
        """Put an engine in its place."""
        engine = self._engine(sidecar.made_for)
        try:
            for path, content in (
                (engine, data),
                (engine.with_suffix(SIDECAR), msgspec.json.format(msgspec.json.encode(sidecar))),
            ):
                new = path.with_name(f"{path.name}.{os.getpid()}.new")
                new.write_bytes(content)
                new.replace(path)
        except OSError as error:
            raise ModelError(f"{self.folder}: the engine cannot be written ({one_line(error)})") from error
        return engine

    def all(self) -> Iterator[Sidecar]:
        """What the engines say of themselves; damaged sidecars are left out, their engines are misses anyway."""
        for path in sorted(self.folder.glob(f"*{SIDECAR}")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Sidecar)
            except (OSError, msgspec.MsgspecError):
                continue

    def tuning(self, made_for: MadeFor) -> Path:
        """Where the library keeps what it measured on a GPU while it built engines."""
        parts = (made_for.library, made_for.version, made_for.gpu, made_for.capability, made_for.driver)
        return self.folder / f"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.timing"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One builder at a time; whoever else wants to build waits."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise ModelError(f"{self.folder}: engines cannot be kept there ({one_line(error)})") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _engine(self, made_for: MadeFor) -> Path:
        return self.folder / f"{made_for.key}{ENGINE}"

    def _nearest(self, wanted: MadeFor) -> str:
        """Why nothing fits: how the engine that differs least does."""
        of_model = [sidecar.made_for for sidecar in self.all() if sidecar.made_for.model == wanted.model]
        if not of_model:
            return "no engine was built for this model"
        names = MadeFor.__struct_fields__
        differences = [[name for name in names if getattr(other, name) != getattr(wanted, name)] for other in of_model]
        fewest, other = min(zip(differences, of_model, strict=True), key=lambda pair: len(pair[0]))
        said = ", ".join(f"{name} {getattr(other, name)}, here {getattr(wanted, name)}" for name in fewest)
        return f"the engine built for this model is of {said}" if fewest else "its engine file is gone"
