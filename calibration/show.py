"""A calibration as a page that opens from disk: a wrong lamp is to be seen at a glance."""

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.plots import Curve, directions_from_above, draw_curves, light_fields
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.types import F32, U8
from edge.service import markup
from edge.service.markup import Html, text
from edge.service.pictures import colour_of

F64 = NDArray[np.float64]

IDEAL_ERROR_DEG = 0.33
"""Median error of normals for 1 % of noise under four lights 55 degrees from the vertical."""
_MOST_ERROR_DEG = 2 * IDEAL_ERROR_DEG
_LEAST_INTENSITY, _MOST_INTENSITY = 0.5, 2.0
_MOST_TURN_DEG = 45.0
_COLUMNS = 256
_DRAWS = 4096


@dataclass(frozen=True)
class Quality:
    """What can be told of a calibration without a web. `columns` (m,) of the image; there `condition` (m,) number of
    the matrix of lights and `error_deg` (m,), the median angle by which 1 % of noise turns a normal of flat web.
    `azimuth_deg`, `polar_deg` (n,) of each light at the image's middle. With a flat field `intensity` (n,) of each
    lamp relative to their median, and `bright_deg` (n,), the azimuth at which its field is brighter than those of the
    others; NaN without.
    """

    columns: NDArray[np.intp]
    condition: F64
    error_deg: F64
    azimuth_deg: F64
    polar_deg: F64
    intensity: F64
    bright_deg: F64

    @property
    def doubts(self) -> list[str]:
        """What looks wrong, in words."""
        found = []
        for light, (intensity, turn_deg) in enumerate(zip(self.intensity, self.turns_deg, strict=True)):
            if not np.isnan(intensity) and not _LEAST_INTENSITY <= intensity <= _MOST_INTENSITY:
                found.append(f"light {light} gives {intensity:.2f} times what its fellows give: look at the lamp")
            if turn_deg > _MOST_TURN_DEG:
                found.append(
                    f"light {light} is said to stand at azimuth {self.azimuth_deg[light]:.0f}°, but its field is "
                    f"brighter towards {self.bright_deg[light]:.0f}°: are lights interchanged"
                )
        if self.error_deg.max() > _MOST_ERROR_DEG:
            found.append(
                f"1 % of noise turns normals by {self.error_deg.max():.2f}°, with four lamps around the web it is "
                f"{IDEAL_ERROR_DEG}°: perhaps two lamps stand on the same side"
            )
        return found

    @property
    def turns_deg(self) -> F64:
        """(n,) from 0 to 180: from where each light is said to stand to where its field is brighter; 0 if unknown."""
        turns: F64 = np.abs((self.bright_deg - self.azimuth_deg + 180) % 360 - 180)
        return np.nan_to_num(turns)


def assess(calibration: Calibration) -> Quality:
    """The figures by which a calibration is judged."""
    columns = np.unique(np.linspace(0, calibration.width - 1, min(_COLUMNS, calibration.width)).round().astype(int))
    g = calibration.light_directions[:, :, columns].transpose(2, 0, 1)
    noise = 0.01 * g[:, :, 2]
    if calibration.flat is not None:
        g, noise = g / g[:, :, 2:], np.full_like(noise, 0.01)
    tilts = np.linalg.pinv(g)[:, :2] * noise[:, None]
    spread = np.linalg.cholesky(tilts @ tilts.transpose(0, 2, 1) + 1e-18 * np.eye(2))
    draws = np.random.default_rng(0).standard_normal((2, _DRAWS))
    middle = calibration.light_directions.mean(axis=2)
    intensity, bright_deg = _fields(calibration)
    return Quality(
        columns=columns,
        condition=np.linalg.cond(g),
        error_deg=np.degrees(np.median(np.linalg.norm(spread @ draws, axis=1), axis=1)),
        azimuth_deg=np.degrees(np.arctan2(middle[:, 1], middle[:, 0])) % 360,
        polar_deg=np.degrees(np.arccos(np.clip(middle[:, 2] / np.linalg.norm(middle, axis=1), -1, 1))),
        intensity=intensity,
        bright_deg=bright_deg,
    )


def _fields(calibration: Calibration) -> tuple[F64, F64]:
    """Intensity of each lamp and the azimuth at which it is brighter than the mean of all lamps, by a plane through
    the logarithm; what lens and web do to all lamps alike cancels."""
    if calibration.flat is None or calibration.dark is None:
        unknown = np.full(calibration.lights, np.nan)
        return unknown, unknown
    signal = calibration.flat - calibration.dark
    levels = signal.mean(axis=(1, 2), dtype=np.float64)
    y = calibration.transport_sign * (np.arange(calibration.height) - (calibration.height - 1) / 2)
    x = np.arange(calibration.width) - (calibration.width - 1) / 2
    log = np.log(signal, dtype=np.float64)
    along_x, along_y = (log @ x).mean(axis=1) / (x @ x + 1e-9), (y @ log).mean(axis=1) / (y @ y + 1e-9)
    uphill = np.arctan2(along_y - along_y.mean(), along_x - along_x.mean())
    return levels / np.median(levels), np.degrees(uphill) % 360


def write_page(path: Path, calibration: Calibration, name: str) -> Quality:
    """Write the page of a calibration that is called `name`. Raises CalibrationError where it cannot be written."""
    quality = assess(calibration)
    parts = [
        markup.heading(name, f"Foilsight calibration {calibration.digest[:12]}, {calibration.origin}"),
        _verdict(quality),
        markup.tiles(_figures(calibration, quality)),
        markup.section("Lights, as seen from above", *_lights(calibration, quality)),
        markup.section("Light of each lamp on good web", *_flats(calibration, quality)),
        markup.section("Dark field", *_darks(calibration)),
        markup.section("What noise does to normals", *_noise(calibration, quality)),
        markup.section("How it was found", *_story(calibration)),
    ]
    try:
        markup.write_html(path, name, parts)
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from error
    return quality


def _verdict(quality: Quality) -> Html:
    if quality.doubts:
        return markup.verdict(
            "Something is wrong with a lamp, or with what is said of it", "; ".join(quality.doubts) + ".", "bad"
        )
    if np.isnan(quality.intensity).any():
        return markup.verdict("The lights can be solved", "Whether lamps are as said only a flat field tells.", "good")
    return markup.verdict("The lamps look sound", "Each is brighter towards where it is said to stand.", "good")


def _figures(calibration: Calibration, quality: Quality) -> list[tuple[str, str, str]]:
    pitch_mm, angle_deg = calibration.pitch_mm, calibration.transport_angle_deg
    way = "smaller rows" if calibration.transport_sign > 0 else "larger rows"
    worst = float(quality.error_deg.max())
    return [
        ("lights", f"{calibration.lights}", ""),
        ("image", f"{calibration.width} × {calibration.height} px", ""),
        ("pitch", "unknown" if pitch_mm is None else f"{pitch_mm * 1000:.4g} µm", "" if pitch_mm else "warn"),
        (f"askew, the web runs towards {way}", f"{angle_deg:+.3f}°", ""),
        ("web to a mm of the encoder", f"{calibration.encoder_scale:.5g} mm", ""),
        ("slopes made gentler, for gloss", f"{calibration.slope_gain:.3g} times", ""),
        ("normals turn by, for 1 % of noise", f"{worst:.2f}°", "bad" if worst > _MOST_ERROR_DEG else ""),
    ]


def _lights(calibration: Calibration, quality: Quality) -> list[Html]:
    rows = []
    for light in range(calibration.lights):
        bright = text("–", "pale")
        if not np.isnan(quality.bright_deg[light]):
            wrong = quality.turns_deg[light] > _MOST_TURN_DEG
            bright = text(f"{quality.bright_deg[light]:.0f}", "bad" if wrong else "")
        figures = (f"{quality.azimuth_deg[light]:.1f}", f"{quality.polar_deg[light]:.1f}")
        rows.append((_name(light), *map(text, figures), bright, _intensity(float(quality.intensity[light]))))
    hint = (
        "Along each line the light moves as the point looked at moves across the web; short strokes show it from the "
        "first to the last image row. Azimuth from x, across the web, towards y, the way it comes; polar angle from "
        "the vertical."
    )
    head = ("light", "azimuth °", "polar °", "brighter towards °", "relative light")
    picture = _figure(directions_from_above(calibration), "", "Light directions from above")
    return [markup.paragraph(hint, "pale"), picture, markup.table(head, rows)]


def _intensity(relative: float) -> Html:
    if np.isnan(relative):
        return text("–", "pale")
    return text(f"{relative:.3f}", "" if _LEAST_INTENSITY <= relative <= _MOST_INTENSITY else "bad")


def _name(light: int) -> Html:
    return markup.swatch(f"{light}", colour_of(light + 1))


def _flats(calibration: Calibration, quality: Quality) -> list[Html]:
    if calibration.flat is None or calibration.dark is None:
        return []
    counts = calibration.flat - calibration.dark
    hint = (
        f"Counts over the dark field, all lamps on one scale from 0 to {counts.max():.0f}. Arrows: white, where the "
        "light is said to come from; black, where this lamp's field is brighter than the others'. They agree where "
        "lamps are what they are said to be."
    )
    pictures = light_fields(counts, calibration, quality.azimuth_deg, quality.bright_deg)
    return [markup.paragraph(hint, "pale"), *_fields_of(pictures, counts)]


def _darks(calibration: Calibration) -> list[Html]:
    if calibration.dark is None:
        return []
    hint = f"Counts without lamps, all on one scale from 0 to {calibration.dark.max():.1f} of {calibration.white:.0f}."
    return [markup.paragraph(hint, "pale"), *_fields_of(light_fields(calibration.dark, calibration), calibration.dark)]


def _fields_of(pictures: list[U8], counts: F32) -> list[Html]:
    figures = [
        _figure(
            picture,
            f"light {light}: mean {of_light.mean():.1f}, {of_light.min():.1f} to {of_light.max():.1f}",
            f"light {light}",
        )
        for light, (picture, of_light) in enumerate(zip(pictures, counts, strict=True))
    ]
    side_by_side = "display:grid;grid-template-columns:repeat(auto-fill,minmax(26rem,1fr));gap:0 1.5rem"
    return [Html(f'<div style="{side_by_side}">{"".join(figures)}</div>')]


def _noise(calibration: Calibration, quality: Quality) -> list[Html]:
    unit, per = ("mm", calibration.pitch_mm) if calibration.pitch_mm is not None else ("px", 1.0)
    curves = [
        Curve("median error of normals in degrees for 1 % of noise", quality.error_deg, IDEAL_ERROR_DEG),
        Curve("condition number of the lights", quality.condition, None),
    ]
    hint = (
        f"By column of the image. Dashed: {IDEAL_ERROR_DEG}°, four lamps around the web at 55° from the vertical. "
        "The condition number is 1 where noise of the lights counts alike whichever way a normal leans."
    )
    return [
        markup.paragraph(hint, "pale"),
        _figure(
            draw_curves(curves, quality.columns.astype(np.float64) * per, f"{unit} across"),
            "",
            "Error and condition by column",
        ),
    ]


def _story(calibration: Calibration) -> list[Html]:
    rows = [
        (
            text(fit.what),
            text(fit.when),
            text(", ".join(fit.sources)),
            text(", ".join(f"{score.replace('_', ' ')} {value:.4g}" for score, value in fit.scores.items())),
        )
        for fit in calibration.fits
    ]
    origin = markup.facts([("made from", calibration.origin), ("digest", calibration.digest)])
    return [origin, markup.table(("fitted", "when", "from", "scores"), rows, words=4)] if rows else [origin]


def _figure(picture: U8, caption: str, alt: str) -> Html:
    data = b64encode(bytes(cv2.imencode(".png", picture)[1])).decode()
    image = f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
    return Html(f"<figure><figcaption>{escape(caption)}</figcaption>{image}</figure>")
