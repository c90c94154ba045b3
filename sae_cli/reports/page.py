"""The page: one file that holds everything it needs and may ask nobody for more.

Its content security policy allows the scripts that are in it, by their hashes, and no connections: what a corpus
contains is text, whatever it says.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from sae_cli.escaping import visible
from sae_cli.reports.charts import chart_document
from sae_cli.reports.feature_browser import browser_document
from sae_cli.reports.packing import Pack, script_json
from sae_cli.reports.values import Cell, Report

GENERATOR = "sae report"
"""What a page says of where it comes from, near its beginning."""

_LIBRARY = "plotly-gl3d.min.js"
_SCRIPTS = ("data.js", "charts.js", "tables.js", "features.js", "page.js")


def page(report: Report) -> bytes:
    """The report as an HTML file; the same report is the same bytes."""
    pack = Pack()
    charts = [chart_document(chart, pack) for section in report.sections for chart in section.charts]
    pages = browser_document(report.features, pack) if report.features else None
    scripts = [*([_asset(_LIBRARY)] if charts else []), *map(_asset, _SCRIPTS)]
    text = _environment().get_template("report.html").render(
        report=report,
        generator=GENERATOR,
        policy=_policy(scripts),
        style=Markup(_asset("report.css")),
        scripts=[Markup(each) for each in scripts],
        data=Markup(script_json({"charts": charts, "features": pages})),
        numbers=Markup(pack.encoded()),
    )  # fmt: skip
    return text.encode()


def is_report(beginning: bytes) -> bool:
    """Whether a file that begins so was made by `page`."""
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in beginning


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "form-action 'none'; base-uri 'none'"
    )


@cache
def _asset(name: str) -> str:
    """A file of the package, with line ends as the browser counts them for its hash."""
    content = files("sae_cli.reports").joinpath("assets", name).read_text(encoding="utf-8")
    return content.replace("\r\n", "\n").replace("\r", "\n")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sae_cli.reports", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"visible": visible, "cell": _cell}
    return environment


def _cell(value: str | Cell) -> Cell:
    return value if isinstance(value, Cell) else Cell(text=value)
