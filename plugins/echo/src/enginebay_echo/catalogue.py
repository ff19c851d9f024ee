"""The catalogue that offers the model ``echo``. It knows nothing of the engine."""

from __future__ import annotations

from pathlib import Path

from enginebay.data import Artifact, CatalogueModel

models: tuple[CatalogueModel, ...] = (
    CatalogueModel(
        name="echo",
        summary="says again what was said last; no weights",
        artifacts=(Artifact(format="echo", path=Path(__file__).parent / "models" / "echo.echo"),),
    ),
)
"""Every model of this catalogue: its name and one artifact for each format."""
