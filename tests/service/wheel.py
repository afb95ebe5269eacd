"""A wheel of the sources as they stand, without a build tool or a network."""

import base64
import hashlib
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]


def build_wheel(folder: Path, changed: Mapping[str, bytes] | None = None) -> Path:
    """Write a wheel that pip can install without dependencies; `changed` instead of, or beside, the files there are."""
    project = tomllib.loads((SOURCES / "pyproject.toml").read_text())["project"]
    name = f"foilsight-{project['version']}"
    info = f"{name}.dist-info"
    scripts = "".join(f"{script} = {where}\n" for script, where in project["scripts"].items())
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: foilsight\nVersion: {project['version']}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{scripts}".encode(),
    }
    for top in ("edge", "calibration"):
        for file in sorted((SOURCES / top).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                files[str(file.relative_to(SOURCES))] = file.read_bytes()
    files |= changed or {}
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as out:
        for path, data in files.items():
            out.writestr(zipfile.ZipInfo(path), data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
