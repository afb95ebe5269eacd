"""A replay's report as a page that opens from disk: verdict, roll map, worst sections, most severe defects, figures."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from edge.core.types import Coverage, Defect
from edge.service import markup
from edge.service.album import ROLL_ALBEDO, ROLL_MAP, Pictures
from edge.service.markup import Html, text
from edge.service.pictures import ALBEDO_WHITE, RESIDUAL_WHITE, SLOPE_STRETCH, colour_of, normal_ball
from edge.service.report import EVENTS, REPORT, Report

PAGE = "report.html"
_MOST_LISTED = 500
_MOST_GAPS = 40


def write_page(folder: Path, report: Report, labels: Sequence[str], pictures: Pictures) -> None:
    """Write `report.html` into the report folder, beside the pictures it shows; `labels` without background."""
    about = f"Foilsight replay{f' of roll {report.roll}' if report.roll else ''}, model {report.model[:12]}"
    parts = [
        markup.heading(report.source, about),
        _verdict(report),
        markup.tiles(_figures(report)),
        *(markup.paragraph(note, "note") for note in report.notes),
        markup.section("Roll map", _map(pictures), _albedo()),
        markup.section("Web that was not fully inspected", *_gaps(report.not_inspected)),
        markup.section("Defects by class", *_classes(report, labels)),
        markup.section(
            "Sections with most defects" if report.defects else "A section of the web", *_sections(pictures, labels)
        ),
        markup.section("Largest of each class", *_gallery(folder, pictures.defects)),
        markup.section("All defects", *_listed(report.defects)),
        markup.section("How it was inspected", _facts(report)),
        markup.footer(
            text("All events:"),
            markup.link(EVENTS, EVENTS),
            text("· all figures:"),
            markup.link(REPORT, REPORT),
            text(
                "· positions: along the web from the start of the roll, across it from the first column of the image."
            ),
        ),
    ]
    markup.write_html(folder / PAGE, report.source, parts)


def class_legend(labels: Sequence[str]) -> Html:
    """The colours of the classes."""
    return markup.legend(markup.swatch(named(label), colour_of(index)) for index, label in enumerate(labels, start=1))


def panel_legend() -> Html:
    """What the panels of a defect's picture show."""
    ball = b64encode(normal_ball()).decode()
    return markup.legend(
        [
            markup.ramp("albedo", "0", f"{ALBEDO_WHITE:g} times the flat-field target"),
            Html(
                f'<span><img class="ball" alt="" src="data:image/png;base64,{ball}">'
                f"normals, as on this hemisphere; slopes {SLOPE_STRETCH:g}-fold</span>"
            ),
            markup.ramp("residual (photometric checksum)", f"−{RESIDUAL_WHITE:g}", f"+{RESIDUAL_WHITE:g} of albedo"),
            markup.ramp("height, from the normals", "lowest", "highest; the figure is the defect's own"),
        ]
    )


def named(label: str) -> str:
    """A label as people say it."""
    return label.replace("_", " ")


def _counted(defects: int) -> str:
    return "1 defect" if defects == 1 else f"{defects:,} defects"


def _verdict(report: Report) -> Html:
    seen_mm, area_m2 = report.seen_mm, report.seen_m2
    seen = f"{seen_mm:,.1f} mm of web, {report.width_mm:.1f} mm wide, were inspected ({area_m2:.4f} m²)."
    found = len(report.defects)
    words = f"{_counted(found)} found" if found else "Nothing found"
    if report.uninspected_mm:
        words += f", but {report.uninspected_mm:,.1f} mm inside the roll were not seen"
    elif not seen_mm:
        words = "No web was inspected"
    kind = "bad" if report.uninspected_mm or not seen_mm else "warn" if report.stopped or found else "good"
    return markup.verdict(words, seen, kind)


def _figures(report: Report) -> list[tuple[str, str, str]]:
    lost = report.frames_lost + report.frames_unusable
    return [
        ("web", f"{report.web_mm:,.1f} mm", ""),
        ("inspected", f"{report.inspected_mm:,.1f} mm", "good"),
        ("degraded: seen under three lights", f"{report.degraded_mm:,.1f} mm", ""),
        ("not seen inside the roll", f"{report.uninspected_mm:,.1f} mm", "bad" if report.uninspected_mm else ""),
        ("lead-in and lead-out", f"{report.edge_mm:,.1f} mm", ""),
        ("frames lost or unusable", f"{lost:,} of {report.frames + report.frames_lost:,}", "bad" if lost else ""),
        ("defects", f"{len(report.defects):,}", ""),
    ]


def _map(pictures: Pictures) -> Html:
    """The roll map, on which sections open in full resolution."""
    width, height = pictures.map_size_px
    links = []
    for number, (section, boxes) in enumerate(pictures.sections, start=1):
        target = f"#section{number}"
        for x, y, across, down in boxes:
            frame = f'<rect x="{x}" y="{y}" width="{across}" height="{down}"/>'
            tag = f'<rect class="tag" x="{x}" y="{y}" width="22" height="20"/>'
            tag += f'<text x="{x + 7}" y="{y + 16}">{number}</text>'
            name = f"<title>section {number}: {section.from_mm:.1f} to {section.to_mm:.1f} mm</title>"
            links.append(f'<a href="{target}">{frame}{tag}{name}</a>')
    image = f'<image href="{ROLL_MAP}" width="{width}" height="{height}"/>'
    alt = "The web to scale with its defects"
    return Html(f'<svg role="img" aria-label="{alt}" viewBox="0 0 {width} {height}">{image}{"".join(links)}</svg>')


def _albedo() -> Html:
    whole = markup.figure(ROLL_ALBEDO, "", "The albedo of the web to scale with its defects")
    hint = "Relief, lit from one side. Framed: the sections shown below; click one to go there."
    return Html(markup.paragraph(hint, "pale") + markup.folded("The same in albedo", whole))


def _gaps(not_inspected: Sequence[Coverage]) -> list[Html]:
    inside = [each for each in not_inspected if not (each.state == "uninspected" and each.why in ("start", "end"))]
    longest = sorted(inside, key=lambda each: (each.state != "uninspected", each.from_row - each.to_row))[:_MOST_GAPS]
    rows = [
        (
            text(
                "not seen" if each.state == "uninspected" else "degraded", "bad" if each.state == "uninspected" else ""
            ),
            text(each.why),
            text(f"{each.from_mm:,.2f}"),
            text(f"{each.to_mm:,.2f}"),
            text(f"{each.to_mm - each.from_mm:,.2f}"),
        )
        for each in sorted(longest, key=lambda each: each.from_row)
    ]
    if not rows:
        return []
    left = len(inside) - len(rows)
    rest = [markup.paragraph(f"and {left:,} shorter ones, all in {REPORT}", "pale")] if left else []
    return [markup.table(("state", "why", "from mm", "to mm", "length mm"), rows, words=2), *rest]


def _classes(report: Report, labels: Sequence[str]) -> list[Html]:
    if not report.defects:
        return []
    area_m2 = report.seen_m2
    rows = []
    for index, label in enumerate(labels, start=1):
        found = [defect for defect in report.defects if defect.label == label]
        rows.append((markup.swatch(named(label), colour_of(index)), *_sums(found, area_m2)))
    rows.append((text("all"), *_sums(report.defects, area_m2)))
    head = ("class", "defects", "per m²", "area mm²", "largest mm²", "longest mm", "mean score")
    return [markup.table(head, rows, sums=True)]


def _sums(found: Sequence[Defect], area_m2: float) -> list[Html]:
    if not found:
        return [text("0"), *[text("–", "pale")] * 5]
    figures = (
        f"{len(found):,}",
        f"{len(found) / area_m2:,.0f}" if area_m2 else "–",
        f"{sum(d.area_mm2 for d in found):,.2f}",
        f"{max(d.area_mm2 for d in found):,.3f}",
        f"{max(d.length_mm for d in found):,.2f}",
        f"{sum(d.score_mean for d in found) / len(found):.2f}",
    )
    return [text(figure) for figure in figures]


def _sections(pictures: Pictures, labels: Sequence[str]) -> list[Html]:
    if not pictures.sections:
        return []
    shown = []
    for number, (section, _) in enumerate(pictures.sections, start=1):
        title = f"{number}: {section.from_mm:,.1f} to {section.to_mm:,.1f} mm, {_counted(section.defects)}"
        images = [
            markup.figure(f"{path.parent.name}/{path.name}", layer, title, "low")
            for layer, path in section.paths.items()
        ]
        shown.append(Html(f'<h3 id="section{number}">Section {title}</h3>' + "".join(images)))
    hint = "Outlines in the colours of the classes, with the defects' numbers; rulers in millimetres of web."
    return [markup.paragraph(f"{hint} A click opens the full resolution.", "pale"), class_legend(labels), *shown]


def _gallery(folder: Path, pictures: Sequence[tuple[Defect, Path]]) -> list[Html]:
    figures = [
        markup.figure(str(path.relative_to(folder)), f"{_place(defect)}: {_size(defect)}", named(defect.label))
        for defect, path in pictures
    ]
    return [panel_legend(), *figures] if figures else []


def _place(defect: Defect) -> str:
    x, y = defect.centroid_mm
    return f"{named(defect.label)} {defect.id} at {y:,.1f} mm, {x:.1f} mm across"


def _size(defect: Defect) -> str:
    size = f"{defect.length_mm:.2f} × {defect.width_mm:.2f} mm, {defect.area_mm2:.3f} mm²"
    return f"{size}, score {defect.score_mean:.2f}"


def _listed(defects: Sequence[Defect]) -> list[Html]:
    if not defects:
        return []
    largest = sorted(defects, key=lambda defect: -defect.area_mm2)[:_MOST_LISTED]
    rows = [
        [
            text(figure)
            for figure in (
                named(defect.label),
                f"{defect.id}",
                f"{defect.centroid_mm[1]:,.1f}",
                f"{defect.centroid_mm[0]:.1f}",
                f"{defect.length_mm:.2f}",
                f"{defect.width_mm:.2f}",
                f"{defect.area_mm2:.3f}",
                f"{defect.orientation_deg:.0f}",
                f"{defect.score_mean:.2f}",
            )
        ]
        for defect in largest
    ]
    head = ("class", "id", "along mm", "across mm", "length mm", "width mm", "area mm²", "direction °", "score")
    which = f"The {len(largest)} largest of {len(defects):,}" if len(largest) < len(defects) else "By size"
    return [markup.folded(which, markup.table(head, rows))]


def _facts(report: Report) -> Html:
    latency = ", ".join(f"{name} {value:.0f} ms" for name, value in report.latency_ms.items())
    return markup.facts(
        [
            ("frames", f"{report.frames:,}, {report.frames_lost:,} lost, {report.frames_unusable:,} unusable"),
            ("speed", f"{report.mpix_per_s:.2f} MPix/s of web"),
            ("latency, last frame to event", latency),
            ("network", f"{report.backend}, {report.precision}"),
            ("model", report.model),
            ("calibration", report.calibration),
        ]
    )
