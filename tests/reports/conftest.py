"""Small runs made by hand, and a reader of pages that knows nothing of how they are made."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import Maker

DTYPES = {"f8": "<f8", "f4": "<f4", "i4": "<i4", "u2": "<u2", "u1": "u1"}


@dataclass
class Page(HTMLParser):
    """An HTML page: its data, its text, and its elements by name."""

    content: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[tuple[dict[str, str | None], str]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._inside = ""
        self.feed(self.content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            about, before = self.scripts[-1]
            self.scripts[-1] = (about, before + data)
        else:
            self.text += data

    def block(self, name: str) -> str:
        return next(text for about, text in self.scripts if about.get("id") == name)

    @property
    def data(self) -> Any:
        return json.loads(self.block("report-data"))

    def numbers(self, entry: Mapping[str, Any]) -> np.ndarray:
        content = zlib.decompress(base64.b64decode(self.block("report-numbers")))
        count = int(np.prod(entry["shape"]))
        return np.frombuffer(content, DTYPES[entry["type"]], count, entry["at"]).reshape(entry["shape"])

    def chart(self, name: str) -> Any:
        return next(each for each in self.data["charts"] if each["name"] == name)

    def column(self, chart: str, column: str, series: int = 0) -> np.ndarray | list[str]:
        found = self.chart(chart)["series"][series]["columns"][column]
        return found["words"] if "words" in found else self.numbers(found)


@pytest.fixture(scope="session")
def opened() -> Callable[[bytes], Page]:
    return lambda content: Page(content.decode())


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "runs")
