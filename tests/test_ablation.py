"""The ablation's page says whether what is asked was reached, and how sure that is."""

from pathlib import Path

import pytest

from benchmarks.recall_page import PAGE, Result, write_page
from edge.service.matching import Score


def result_of(found: int, false: int, web_m2: float) -> Result:
    scores = {"crack": Score.of(100, found, 90 + false, 90), "spot": Score.of(0, 0, 0, 0)}
    return Result(scores, 0, web_m2, ["web_1/evaluation.html"])


@pytest.mark.parametrize(("false", "exact"), [(0, 2.996), (1, 4.744), (10, 16.962)])
def test_limit_of_a_rate_is_that_of_poisson(false: int, exact: float) -> None:
    result = result_of(90, false, 2.0)
    assert result.false_per_m2 == false / 2
    assert result.false_per_m2_at_most == pytest.approx(exact / 2, rel=0.02)


@pytest.mark.parametrize(
    ("found", "false", "stains", "kind"),
    [(90, 0, 0, "good"), (89, 0, 0, "bad"), (90, 11, 0, "bad"), (90, 10, 1, "good"), (90, 0, 3, "bad")],
)
def test_verdict(tmp_path: Path, found: int, false: int, stains: int, kind: str) -> None:
    results = {"everything": result_of(found, false, 0.1), "patches": result_of(0, stains, 2.0)}
    write_page(tmp_path, results, "everything", "patches", "f" * 64, "in a test")
    page = (tmp_path / PAGE).read_text()
    assert f'class="verdict {kind}"' in page
    assert f"{found} of 100" in page and 'href="web_1/evaluation.html"' in page
