"""The catalogue of the embedded demo model: one set of weights as GGUF, MNN and MLX, found through an entry point.

It only names the files beside it; it knows nothing about engines.
"""

from __future__ import annotations

from pathlib import Path

from enginebay.data import Artifact, CatalogueModel

_MODELS = Path(__file__).parent / "models"

models: tuple[CatalogueModel, ...] = (
    CatalogueModel(
        name="demo",
        summary="1.4 million parameters: short stories, small talk, JSON from a sentence, get_weather and add",
        artifacts=(
            Artifact(format="gguf", path=_MODELS / "gguf" / "demo.gguf"),
            Artifact(format="mnn", path=_MODELS / "mnn"),
            Artifact(format="mlx", path=_MODELS / "mlx"),
        ),
    ),
)
"""Every model of this catalogue: its name and one artifact for each format."""
