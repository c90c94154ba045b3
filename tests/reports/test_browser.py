"""Reports in a headless Chromium: nothing is asked for, everything is drawn, the feature browser does what it says."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.survey import run_directories
from sae_cli.commands import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
F = 40

# Marks that are on the screen: points that were drawn, corners of the outlines of bars, points of a cloud.
MARKS = """figure => {
    const plot = figure.querySelector(".plot");
    const traces = figure.querySelectorAll(".scatterlayer .trace");
    return plot._fullData.map((trace, i) => ({
        name: trace.name,
        points: traces.length ? traces[i].querySelectorAll(".points path.point").length : 0,
        lines: traces.length ? traces[i].querySelectorAll(".lines path.js-line").length : 0,
        given: trace.x.length,
    }));
}"""


@dataclass
class Visit:
    """A page that is open, and what it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def draw_all(self) -> list[Any]:
        figures = self.page.query_selector_all("figure.chart")
        for figure in figures:
            figure.scroll_into_view_if_needed()
            self.page.wait_for_function("each => each.dataset.drawn", arg=figure)
        return figures

    def check_silence(self) -> None:
        assert self.said == []
        assert self.asked == []

    def listed(self) -> list[int]:
        rows = self.page.query_selector_all("#list tbody tr")
        return [int(row.get_attribute("data-feature")) for row in rows]

    def shows(self, feature: int | str) -> None:
        """Waits for the page of a feature: a page hears of a new address later than the address changes."""
        self.page.wait_for_function(
            "title => document.querySelector('#page h3')?.firstChild.textContent === title", arg=f"Feature {feature} "
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def visiting(chromium: Any, path: Any, fragment: str = "", **context: Any) -> Iterator[Visit]:
    with chromium.new_context(**context) as opened:
        opened.set_default_timeout(20_000)
        page, address = opened.new_page(), path.resolve().as_uri()
        visit = Visit(page)
        page.on(
            "console", lambda message: None if "willReadFrequently" in message.text else visit.said.append(message.text)
        )
        page.on("pageerror", lambda error: visit.said.append(str(error)))
        page.on("dialog", lambda dialog: visit.said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: visit.asked.append(request.url) if leaves(request.url, address) else None)
        page.goto(address + fragment)
        yield visit


def leaves(url: str, address: str) -> bool:
    """Whether a request asks for anything but the page and what it has made itself."""
    return url.partition("#")[0] != address and not url.startswith(("data:", "blob:"))


@pytest.fixture
def one(make):
    made = make.train("a")
    make.pages(made)
    return made, report.run([made.directory]).path


def test_every_chart_has_its_marks(chromium, one, make):
    made, path = one
    other, pruned = make.train("b", seed=2, l0=20.0), make.train("p", seed=1, l0=5.0, parent=made)
    compared = make.compare("c", made, other)
    paths = [path, *(report.run([each.directory]).path for each in (pruned, compared))]
    paths.append(report.run([made.directory, other.directory, pruned.directory]).path)
    for each in paths:
        with visiting(chromium, each) as visit:
            figures = visit.draw_all()
            assert figures
            for figure in figures:
                marks(visit, figure)
            visit.check_silence()


def marks(visit, figure):
    """The marks of a chart, as many as the page's data has rows that can be drawn."""
    assert figure.get_attribute("data-drawn") == "yes"
    chart = visit.page.evaluate("name => charts.get(name)", figure.get_attribute("data-chart"))
    drawn = visit.page.evaluate(MARKS, figure)
    assert len(drawn) == len(chart["series"])
    for series, found in zip(chart["series"], drawn, strict=True):
        missing = visit.page.evaluate(
            "([name, i]) => numbers.then(read => { const series = charts.get(name).series[i];"
            " const y = columnOf(read, series.columns[series.y]);"
            " return Array.from(y).filter(each => !Number.isFinite(each)).length; })",
            [chart["name"], chart["series"].index(series)],
        )
        where = f"{chart['name']}: {series['name']}"
        if series["mark"] == "bars":
            assert found["given"] == 2 * series["length"], where
            assert found["lines"] == 1, where
        elif chart["z"]:
            assert found["given"] == series["length"], where
        elif "points" in series["mark"]:
            assert found["points"] == series["length"] - missing, where
        else:
            assert found["lines"] >= 1, where
            assert found["given"] >= series["length"], where
    return drawn


REAL = [Path(each) for each in os.environ.get("SAE_REPORT_RUNS", "").split(os.pathsep) if each]


@pytest.mark.skipif(not REAL, reason="SAE_REPORT_RUNS names no folders of runs")
@pytest.mark.parametrize("folder", REAL, ids=str)
def test_reports_of_real_runs(chromium, folder, tmp_path):
    """All runs of a folder together, and of each command the last one by itself; counted in the artifacts too."""
    found = {each: read_manifest(each) for each in run_directories(folder)}
    finished = [each for each, manifest in found.items() if manifest.status == "complete"]
    with visiting(chromium, report.run(finished, tmp_path / "all.html").path) as visit:
        drawn = {figure.get_attribute("data-chart"): marks(visit, figure) for figure in visit.draw_all()}
        visit.check_silence()
    measured = [each for each in finished if list(each.glob("eval/*/manifest.json"))]
    if measured and len(finished) > 1:
        points = sum(each["points"] for each in drawn["frontier_fvu"])
        ends = sum(found[each].command == "prune-high-freq" for each in measured)
        assert points == len(measured) and sum(each["lines"] > 0 for each in drawn["frontier_fvu"]) == bool(ends)
    for run in {found[each].command: each for each in finished}.values():
        with visiting(chromium, report.run([run], tmp_path / f"{found[run].command}.html").path) as visit:
            drawn = {figure.get_attribute("data-chart"): marks(visit, figure) for figure in visit.draw_all()}
            visit.check_silence()
        if found[run].command == "train":
            assert drawn["curve"][0]["given"] == (run / "metrics.jsonl").read_bytes().count(b"\n")
        if "density_bias" in drawn:
            statistics = load_file(sorted(run.glob("eval/*/features.safetensors"))[0])
            assert sum(each["points"] for each in drawn["density_bias"]) == np.count_nonzero(statistics["count"])


def test_a_chart_s_csv_file_is_the_artifact(chromium, one):
    made, path = one
    features = made_features(made)
    with visiting(chromium, path, accept_downloads=True) as visit:
        with visit.page.expect_download() as download:
            visit.page.click("button[data-csv=density_bias]")
        assert download.value.suggested_filename == "density_bias.csv"
        with open(download.value.path(), newline="") as file:
            rows = list(csv.DictReader(io.StringIO(file.read())))
        by_feature = {int(row["feature"]): row for row in rows}
        alive = np.flatnonzero(features["count"])
        assert sorted(by_feature) == alive.tolist()
        for key in ("frequency", "b_enc", "de_projection", "count"):
            found = [float(by_feature[int(each)][key]) for each in alive]
            assert found == features[key][alive].astype(float).tolist()
        equivalent = visit.page.evaluate("csv('equivalent_model')")
        assert "\r\nreferences,'=cmd()," in equivalent  # no formula
        visit.check_silence()


def made_features(made):
    found = report.subject(made.directory).evaluations[0].features
    return {name: each.numpy() for name, each in found.items()}


def test_sort_filter_and_search(chromium, one):
    made, path = one
    pages = report.subject(made.directory).pages[0].read_tensors("sheets.safetensors")
    features = {name: each.numpy() for name, each in pages.items()}
    frequency = features["frequency"]
    with visiting(chromium, path) as visit:
        page = visit.page
        page.wait_for_selector("#list tbody tr")
        assert visit.listed() == np.argsort(-frequency, kind="stable").tolist()
        for key in ("max_act", "de_projection", "token_entropy", "logit_kurtosis"):
            page.select_option("#sort", key)
            values = features[key]
            falling = [i for i in np.argsort(-values, kind="stable").tolist() if not np.isnan(values[i])]
            assert visit.listed()[: len(falling)] == falling, key
        page.uncheck("#falling")
        page.select_option("#sort", "feature")
        page.fill("#least", "0.001")
        page.fill("#most", "0.01")
        assert visit.listed() == np.flatnonzero((frequency >= 0.001) & (frequency <= 0.01)).tolist()
        page.fill("#least", "")
        page.fill("#most", "")
        page.fill("#search", "#17")
        assert visit.listed() == [17]
        page.fill("#search", "<SCRIPT>")
        assert visit.listed() == firing_on(made, 0)
        page.fill("#search", "no such word")
        assert visit.listed() == []
        assert "0 of 40" in page.inner_text("#found")
        visit.check_silence()


def firing_on(made, token):
    """By brute force: features that fire on a token at half of a context's peak or more."""
    kept = {
        name: each.numpy()
        for name, each in report.subject(made.directory).pages[0].read_tensors("contexts.safetensors").items()
    }
    strong = (kept["activations"] >= kept["peak"][..., None] / 2) & (kept["activations"] > 0)
    return np.flatnonzero((strong & (kept["tokens"] == token)).any(axis=(1, 2))).tolist()


def test_links_and_keys(chromium, one):
    _, path = one
    with visiting(chromium, path, fragment="#f=17") as visit:
        page = visit.page
        visit.shows(17)
        order = visit.listed()
        at = order.index(17)
        page.keyboard.press("j")
        visit.shows(order[at + 1])
        assert page.evaluate("location.hash") == f"#f={order[at + 1]}"
        page.keyboard.press("k")
        page.keyboard.press("k")
        visit.shows(order[at - 1])
        page.focus("#list tbody tr a")
        page.keyboard.press("ArrowDown")
        visit.shows(order[at])
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "search"
        page.keyboard.type("jk")
        assert page.input_value("#search") == "jk"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") != "search"
        page.keyboard.press("?")
        assert page.is_visible("#help")
        page.keyboard.press("Escape")
        assert not page.is_visible("#help")
        page.fill("#search", "")
        link = page.query_selector("#page p a[href^='#f=']")
        target = link.get_attribute("href")
        link.click()
        visit.shows(target.removeprefix("#f="))
        assert page.evaluate("location.hash") == target
        visit.check_silence()


def test_contexts_are_shaded_by_the_encoder_s_values(chromium, one):
    made, path = one
    kept = report.subject(made.directory).pages[0].read_tensors("contexts.safetensors")
    with visiting(chromium, path, fragment="#f=5") as visit:
        visit.page.wait_for_selector("#page .token")
        shown = visit.page.evaluate(
            "[...document.querySelectorAll('#page .context')].map(each =>"
            " [...each.querySelectorAll('.token')].map(token => Number(token.dataset.activation ?? 0)))"
        )
        order = [0, 1, 2, 5, 6, 3, 4]  # the largest, then bands from the highest
        expected = [kept["activations"][5, slot][kept["tokens"][5, slot] >= 0].tolist() for slot in order]
        assert shown == expected
        visit.page.goto(path.resolve().as_uri() + "#f=3")
        visit.shows(3)
        assert "It fires nowhere in this text." in visit.page.inner_text("#page")


def test_text_of_strangers_is_text(chromium, one):
    with visiting(chromium, one[1]) as visit:
        visit.draw_all()
        text = ""
        for feature in range(6):
            visit.page.evaluate(f"location.hash = 'f={feature}'")
            visit.shows(feature)
            text += visit.page.inner_text("#page")
        for shown in (
            "<script>alert(1)</script>",
            r"\u202egpj.exe",
            r"\x1b[2J",
            r"a\u2028b",
            "&lt;b&gt;",
            r"\n",
            "שלום",
            "<b>one</b>.py",
        ):
            assert shown in text
        assert not visit.page.query_selector("#page script, #page b")
        visit.check_silence()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(chromium, one, scheme):
    with visiting(chromium, one[1], color_scheme=scheme) as visit:
        page, other = visit.page, {"light": "dark", "dark": "light"}[scheme]
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == other
        page.reload()
        assert page.evaluate("document.documentElement.dataset.theme") == other
        assert visit.said == []


def test_a_phone_scrolls_in_one_direction(chromium, one):
    with visiting(chromium, one[1], viewport={"width": 360, "height": 740}) as visit:
        visit.draw_all()
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
        visit.check_silence()


def test_tables_are_sorted_by_value(chromium, make):
    runs = [make.train(name, seed=i, l0=l0) for i, (name, l0) in enumerate((("a", 9.0), ("b", 100.0), ("c", 20.0)))]
    with visiting(chromium, report.run([each.directory for each in runs]).path) as visit:
        visit.page.click("#runs thead button >> text=L0")
        first = "[...document.querySelectorAll('#runs tbody tr')].map(row => row.cells[0].textContent)"
        assert visit.page.evaluate(first) == ["b", "c", "a"]
        visit.page.click("#runs thead button >> text=L0")
        assert visit.page.evaluate(first) == ["a", "c", "b"]
        visit.check_silence()
