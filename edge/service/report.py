"""What a replay leaves behind: `report.json`, `events.jsonl`, `outbox.sqlite`, and pictures of roll and defects."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from edge.core.errors import EventsError
from edge.core.types import Coverage, Defect
from edge.events.envelope import encode
from edge.events.outbox import Outbox

OUTBOX, EVENTS, REPORT = "outbox.sqlite", "events.jsonl", "report.json"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One replay in figures. `web_mm` = inspected + degraded + uninspected + edge (lead-in and lead-out).

    `not_inspected`: what was degraded or uninspected, and why, in the order of the web; `defects` are the closed ones,
    their outlines left to the events; `mpix_per_s` counts web pixels, not strobes;
    `latency_ms` runs from the last frame read to an event published; `model` and `calibration` are SHA-256 digests;
    `notes` says what had to be assumed; `stopped`: by hand, before the end.
    """

    source: str
    roll: str
    width_mm: float
    web_mm: float
    inspected_mm: float
    degraded_mm: float
    uninspected_mm: float
    edge_mm: float
    not_inspected: list[Coverage]
    frames: int
    frames_lost: int
    frames_unusable: int
    mpix_per_s: float
    latency_ms: dict[str, float]
    backend: str
    precision: str
    model: str
    calibration: str
    notes: list[str]
    stopped: bool
    defects: list[Defect]

    @property
    def seen_mm(self) -> float:
        """Length of web on which defects could be found."""
        return self.inspected_mm + self.degraded_mm

    @property
    def seen_m2(self) -> float:
        """Its area."""
        return self.seen_mm * self.width_mm * 1e-6

    def count_by_label(self) -> dict[str, int]:
        """Number of defects of each label found."""
        labels = [defect.label for defect in self.defects]
        return {label: labels.count(label) for label in dict.fromkeys(labels)}


def fresh_folder(folder: Path, files: Sequence[str], folders: Sequence[str]) -> None:
    """Make a report folder ready: an earlier report's files and folders of pictures are emptied, others stay.

    Raises EventsError.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in files:
            (folder / name).unlink(missing_ok=True)
        for pictures in (folder / name for name in folders):
            pictures.mkdir(exist_ok=True)
            for picture in (*pictures.glob("*.png"), *pictures.glob("*.jpg")):
                picture.unlink()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """While the block writes into a report folder. Raises EventsError."""
    try:
        yield
    except OSError as error:
        raise EventsError(f"{folder}: report cannot be written there ({error.strerror}): choose --report") from error


def joined(coverages: Sequence[Coverage]) -> list[Coverage]:
    """Coverage in as few records as tell the same."""
    whole: list[Coverage] = []
    for each in coverages:
        before = whole[-1] if whole else None
        if before and (before.to_row, before.state, before.why) == (each.from_row, each.state, each.why):
            passed_over = sum(one.passed_over * (one.to_row - one.from_row) for one in (before, each))
            passed_over /= each.to_row - before.from_row
            whole[-1] = msgspec.structs.replace(before, to_row=each.to_row, to_mm=each.to_mm, passed_over=passed_over)
        else:
            whole.append(each)
    return whole


def write_report(folder: Path, report: Report, outbox: Outbox) -> None:
    """Write `report.json` and, one event a line, `events.jsonl`."""
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    with (folder / EVENTS).open("wb") as lines:
        for event in outbox.since(0):
            lines.write(encode(event) + b"\n")


def print_report(report: Report, folder: Path) -> None:
    """The closing table, on standard output."""
    table = Table(title=f"{report.source}", show_header=False, title_justify="left")
    table.add_row("web", f"{report.web_mm:,.1f} mm in {report.frames:,} frames, {report.frames_lost} lost")
    table.add_row("inspected", f"{report.inspected_mm:,.1f} mm")
    if report.degraded_mm:
        table.add_row("degraded", f"[yellow]{report.degraded_mm:,.1f} mm[/]")
    style = "[red]{}[/]" if report.uninspected_mm else "{}"
    table.add_row("uninspected", style.format(f"{report.uninspected_mm:,.1f} mm"))
    table.add_row("lead-in and lead-out", f"{report.edge_mm:,.1f} mm")
    for label, count in sorted(report.count_by_label().items()):
        table.add_row(label.replace("_", " "), f"{count:,}")
    table.add_row("speed", f"{report.mpix_per_s:.2f} MPix/s of web")
    table.add_row("latency", f"{report.latency_ms['p50']:.0f} ms median, {report.latency_ms['p99']:.0f} ms p99")
    table.add_row("network", f"{report.backend} {report.precision}, model {report.model[:12]}")
    for note in report.notes:
        table.add_row("note", note)
    table.add_row("report", str(folder))
    Console().print(table)
