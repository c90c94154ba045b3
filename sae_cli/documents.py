"""What is handed on to a JSON file, or to stdout, by those who need not look into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Document: TypeAlias = dict[str, object]
"""An object of JSON that is being made: its values are written, and not read here."""

Facts: TypeAlias = Mapping[str, object]
"""Settings, facts or figures by their names, of any kind: who uses one of them sees what it is."""
