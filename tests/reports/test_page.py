"""The page of a report, read as HTML."""

import base64
import hashlib

import numpy as np
import pytest

from sae_cli.reports import feature_browser
from sae_cli.reports.feature_browser import kept_slots
from sae_cli.reports.page import is_report, page
from sae_cli.reports.values import Axis, Cell, Chart, FeaturePages, Report, Section, Series, Table

EVIL = '<script>alert(1)</script>\u202e\x1b[2J"&'
SHOWN = '<script>alert(1)</script>\\u202e\\x1b[2J"&'


def report_with(text=EVIL, features=None):
    series = Series(
        name=text, columns={"x": np.array([1.0, 2.0]), "word": [text, "b"], "y": np.array([3, 4])}, x="x", y="y"
    )
    chart = Chart(
        name="one",
        title=text,
        series=[series],
        x=Axis(title=text),
        y=[Axis(title="y")],
        caption=text,
        key=[(text, text)],
    )
    table = Table(
        rows=[(Cell(text=text, order=1.5, href="./a%20b/report.html"), text)],
        title=text,
        header=(text, "b"),
        sortable=True,
    )
    section = Section(name="s", title=text, text=text, tables=[table], charts=[chart], missing=[text])
    return Report(title=text, subtitle=text, sections=[section], features=features, footer=text)


def test_text_is_text(opened):
    found = opened(page(report_with()))
    assert not any("alert(1)" in text for about, text in found.scripts if about.get("type") is None)
    assert found.text.count(SHOWN) >= 10
    assert "\u202e" not in found.content
    assert "\x1b" not in found.content
    assert found.data["charts"][0]["series"][0]["columns"]["word"]["words"] == [SHOWN, "b"]


def test_only_its_own_scripts_may_run_and_nothing_is_fetched(opened):
    found = opened(page(report_with()))
    policy = next(
        about["content"] for tag, about in found.elements if about.get("http-equiv") == "Content-Security-Policy"
    )
    run = [text for about, text in found.scripts if "type" not in about]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run]
    assert policy.startswith("default-src 'none'; script-src " + " ".join(hashes) + ";")
    assert "unsafe-eval" not in policy
    for tag, about in found.elements:
        assert not any(name.startswith("on") for name in about), f"{tag}: a handler in the page"
        assert "src" not in about
        assert not (about.get("href") or "").startswith("http")


def test_equal_reports_are_equal_bytes_and_know_themselves():
    first = page(report_with())
    assert first == page(report_with())
    assert is_report(first[:4096])
    assert not is_report(b"<!DOCTYPE html><title>notes</title>")


def test_charts_say_in_words_what_they_show(opened):
    found = opened(page(report_with()))
    (label,) = [about["aria-label"] for tag, about in found.elements if about.get("role") == "img"]
    assert label.startswith(SHOWN)


def test_a_page_without_charts_has_no_library():
    assert len(page(Report(title="t", subtitle="s", sections=[]))) < 100_000


def sheets_of(features, slots, width, quantile):
    return FeaturePages(
        feature=np.arange(features), statistics={}, tokens=np.full((features, slots, width), -1),
        activations=np.zeros((features, slots, width)), document=np.full((features, slots), -1),
        quantile=np.tile(quantile, (features, 1)), peak=np.zeros((features, slots)), vocabulary={}, documents={},
        bands=2, nearest=np.zeros((features, 1), dtype=int), nearest_cosine=np.zeros((features, 1)),
    )  # fmt: skip


@pytest.mark.parametrize(("cells", "kept"), [(10**6, [0, 1, 2, 3, 4]), (30, [0, 3, 4]), (40, [0, 1, 3, 4]), (1, [0])])
def test_contexts_are_left_out_evenly_where_there_is_no_room(monkeypatch, cells, kept):
    monkeypatch.setattr(feature_browser, "MOST_CELLS", cells)
    assert kept_slots(sheets_of(2, 5, 5, [0, 0, 0, 1, 2])).tolist() == kept


def test_a_page_of_nobody(opened):
    assert opened(page(report_with(features=sheets_of(0, 0, 5, [])))).data["features"]["words"] == []
