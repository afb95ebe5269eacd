"""The report as a page that opens from disk: figures, roll map, pictures of the most severe defects."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from edge.core.types import Defect
from edge.service.report import EVENTS, REPORT, ROLL_MAP, Report

PAGE = "report.html"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; border: 1px solid #ddd }
figure { margin: 1rem 0 } figcaption { color: #555; margin-bottom: .3rem }
.bad { color: #b00020; font-weight: 600 }
.note { background: #fff6e0; padding: .4rem .8rem; border-left: 4px solid #e0a000 }
"""


def write_page(folder: Path, report: Report, pictures: Sequence[tuple[Defect, Path]]) -> None:
    """Write `report.html` into the report folder, beside the pictures it shows."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(report.source)}</title>",
        f"<style>{_STYLE}</style><h1>{escape(report.source)}</h1>",
        *(f"<p class=note>{escape(note)}</p>" for note in report.notes),
        _coverage(report),
        f"<h2>Roll map</h2><img src={ROLL_MAP} alt='The web to scale with its defects'>",
        _classes(report),
        _gallery(folder, pictures),
        f"<p>All events: <a href={EVENTS}>{EVENTS}</a>, all figures: <a href={REPORT}>{REPORT}</a>.</p></html>",
    ]
    (folder / PAGE).write_text("\n".join(parts), encoding="utf-8")


def _coverage(report: Report) -> str:
    lost = f"{report.frames:,} frames, {report.frames_lost} lost, {report.frames_unusable} unusable"
    unseen = f"<span class={'bad' if report.uninspected_mm else 'ok'}>{report.uninspected_mm:,.1f} mm</span>"
    rows = {
        "web": f"{report.web_mm:,.1f} mm in {lost}",
        "inspected": f"{report.inspected_mm:,.1f} mm",
        "degraded": f"{report.degraded_mm:,.1f} mm",
        "uninspected inside the roll": unseen,
        "lead-in and lead-out": f"{report.edge_mm:,.1f} mm",
        "speed": f"{report.mpix_per_s:.2f} MPix/s of web",
        "latency": ", ".join(f"{name} {value:.0f} ms" for name, value in report.latency_ms.items()),
        "network": f"{escape(report.backend)} {escape(report.precision)}, model {report.model[:12]}",
        "calibration": report.calibration[:12],
    }
    return "<table>" + "".join(f"<tr><th>{name}<td>{value}" for name, value in rows.items()) + "</table>"


def _classes(report: Report) -> str:
    head = "<tr><th>class<th class=n>defects<th class=n>area mm²<th class=n>largest mm²<th class=n>longest mm"
    rows = []
    for label in sorted(report.count_by_label()):
        found = [defect for defect in report.defects if defect.label == label]
        area, largest = sum(d.area_mm2 for d in found), max(d.area_mm2 for d in found)
        longest = max(d.length_mm for d in found)
        rows.append(
            f"<tr><td>{escape(label.replace('_', ' '))}<td class=n>{len(found):,}<td class=n>{area:,.2f}"
            f"<td class=n>{largest:.3f}<td class=n>{longest:.2f}"
        )
    return f"<h2>Defects</h2><table>{head}{''.join(rows)}</table>" if rows else "<h2>No defects found</h2>"


def _gallery(folder: Path, pictures: Sequence[tuple[Defect, Path]]) -> str:
    figures = []
    for defect, path in pictures:
        x, y = defect.centroid_mm
        name = escape(defect.label.replace("_", " "))
        size = f"{defect.length_mm:.2f} × {defect.width_mm:.2f} mm, {defect.area_mm2:.3f} mm²"
        caption = f"{name} {defect.id} at {y:.1f} mm, {x:.1f} mm across: {size}, score {defect.score_mean:.2f}"
        source = path.relative_to(folder)
        figures.append(f"<figure><figcaption>{caption}</figcaption><img loading=lazy src={source} alt=''></figure>")
    return "<h2>Largest of each class</h2>" + "".join(figures) if figures else ""
