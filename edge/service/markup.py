"""How the pages look: one template and the few elements they are made of, all in one file, nothing fetched.

Texts are escaped here; what is called `Html` has been.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NewType

Html = NewType("Html", str)
Cell = Html | int
Colour = tuple[int, int, int]
"""Blue, green, red."""


def write_html(path: Path, title: str, parts: Iterable[Html]) -> None:
    """Write a page that opens from disk."""
    template = Template(files("edge.service").joinpath("report.html").read_text(encoding="utf-8"))
    path.write_text(template.substitute(title=escape(title), body="\n".join(parts)), encoding="utf-8")


def text(words: str, kind: str = "") -> Html:
    """Words in a line, `kind` being good, warn, bad or pale."""
    return Html(f'<span class="{kind}">{escape(words)}</span>' if kind else escape(words))


def heading(title: str, about: str) -> Html:
    """The head of a page."""
    return Html(f"<header><h1>{escape(title)}</h1><p>{escape(about)}</p></header>")


def section(title: str, *parts: Html) -> Html:
    """A part of a page under its title; nothing where there are no parts."""
    return Html(f"<h2>{escape(title)}</h2>" + "".join(parts)) if any(parts) else Html("")


def paragraph(words: str, kind: str = "") -> Html:
    """A paragraph, `kind` being note, pale or none."""
    return Html(f'<p class="{kind}">{escape(words)}</p>')


def verdict(words: str, detail: str, kind: str) -> Html:
    """What a hurried reader must know, `kind` being good, warn or bad."""
    return Html(f'<p class="verdict {kind}">{escape(words)}<span>{escape(detail)}</span></p>')


def tiles(figures: Iterable[tuple[str, str, str]]) -> Html:
    """Figures that are seen from afar: (what, value with unit, kind)."""
    each = (
        f'<div class="tile"><b class="{kind}">{escape(value)}</b><small>{escape(what)}</small></div>'
        for what, value, kind in figures
    )
    return Html(f'<div class="tiles">{"".join(each)}</div>')


def facts(rows: Iterable[tuple[str, str]]) -> Html:
    """Names and values, side by side."""
    each = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return Html(f'<div class="facts"><table>{"".join(each)}</table></div>')


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], words: int = 1, sums: bool = False) -> Html:
    """A table; the first `words` columns are text, the others figures; `sums`: the last row adds up the others."""
    kinds = ["" if column < words else ' class="n"' for column in range(len(head))]
    cells = [[cell if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in rows]
    titles = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    lines = [
        "<tr{}>{}</tr>".format(
            ' class="sum"' if sums and row is cells[-1] else "",
            "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)),
        )
        for row in cells
    ]
    return Html(f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def swatch(name: str, colour: Colour) -> Html:
    """A name with its colour."""
    blue, green, red = colour
    return Html(f'<span><i class="swatch" style="background:rgb({red},{green},{blue})"></i>{escape(name)}</span>')


def legend(entries: Iterable[Html]) -> Html:
    """Entries in a row."""
    return Html(f'<div class="legend">{"".join(entries)}</div>')


def ramp(name: str, least: str, most: str) -> Html:
    """What black and white stand for."""
    bar = '<i class="ramp" style="background:linear-gradient(90deg,#000,#fff)"></i>'
    return Html(f"<span>{escape(name)} {escape(least)}{bar}{escape(most)}</span>")


def figure(source: str, caption: str, alt: str, kind: str = "") -> Html:
    """A picture that opens at its full size when clicked, `kind` being low where it might be too tall."""
    image = f'<a href="{escape(source)}"><img loading="lazy" src="{escape(source)}" alt="{escape(alt)}"></a>'
    return Html(f'<figure class="{kind}"><figcaption>{escape(caption)}</figcaption>{image}</figure>')


def folded(summary: str, *parts: Html) -> Html:
    """Parts that show when asked for."""
    return Html(f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>")


def link(target: str, words: str) -> Html:
    """A way to another file of the folder."""
    return Html(f'<a href="{escape(target)}">{escape(words)}</a>')


def footer(*parts: Html) -> Html:
    """The end of a page."""
    return Html(f"<footer>{' '.join(parts)}</footer>")
