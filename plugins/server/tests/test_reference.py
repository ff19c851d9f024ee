"""The reference of HTTP has a heading for every path that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from enginebay.bay import Bay
from enginebay_server import app
from enginebay_server.errors import TYPES

PAGE = (Path(__file__).parents[3] / "docs/reference/http.md").read_text(encoding="utf-8")


def test_every_path_has_its_heading_and_no_other() -> None:
    with Bay() as bay:
        paths = app(bay).openapi()["paths"]
    there = {f"{method.upper()} {path.replace(':path', '')}" for path, methods in paths.items() for method in methods}
    assert set(re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)) == there


def test_every_status_is_in_the_table() -> None:
    assert set(map(int, re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE))) >= set(TYPES)
