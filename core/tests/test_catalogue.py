"""From what a person writes to a file on disk: catalogues, paths, formats, and what is said when nothing fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from enginebay.catalogue import Catalogue, load_catalogue
from enginebay.data import Artifact, CatalogueModel, ModelFormat
from enginebay.errors import ModelLoadError, ModelNotFound, Unsupported
from enginebay.store import choose_artifact, locate, recognise

Install = Callable[..., Path]

GGUF = ModelFormat("gguf", file="*.gguf", magic=b"GGUF")
MNN = ModelFormat("mnn", folder=("*.mnn", "llm_config.json"))
MLX = ModelFormat("mlx", folder=("config.json", "*.safetensors", "tokenizer.json"))

LISTS = """
from pathlib import Path
from enginebay.data import Artifact, CatalogueModel
models = [CatalogueModel({name!r}, "for a test", (Artifact("gguf", Path("/nowhere.gguf")),))]
def function(): return models
"""


def test_catalogues_are_lists_or_functions(install: Install) -> None:
    install("one", {"enginebay.catalogues": {"one": "list_one:models"}}, {"list_one": LISTS.format(name="wall")})
    install("two", {"enginebay.catalogues": {"two": "list_two:function"}}, {"list_two": LISTS.format(name="tower")})
    assert {"wall", "tower"} <= set(load_catalogue().models)


@pytest.mark.parametrize("source", ["1 / 0", "models = 3", "models = ['wall']", "def models(): return 1 / 0", ""])
def test_a_broken_catalogue_does_not_hide_the_others(install: Install, source: str) -> None:
    install("bad", {"enginebay.catalogues": {"bad": "list_bad:models"}}, {"list_bad": source})
    install("good", {"enginebay.catalogues": {"good": "list_good:models"}}, {"list_good": LISTS.format(name="wall")})
    catalogue = load_catalogue()
    assert "wall" in catalogue.models
    assert "bad" in catalogue.quarantined["bad"].message


def test_a_model_that_two_catalogues_list_is_in_neither(install: Install) -> None:
    for name in ("one", "two"):
        entry = {"enginebay.catalogues": {name: f"list_{name}:models"}}
        install(name, entry, {f"list_{name}": LISTS.format(name="wall")})
    catalogue = load_catalogue()
    assert "wall" not in catalogue.models
    with pytest.raises(ModelNotFound, match="listed by the catalogues one and two"):
        locate("wall", catalogue)


# --- references -------------------------------------------------------------------------------------------------------


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    (tmp_path / "wall.gguf").write_bytes(b"GGUF")
    artifacts = (Artifact("gguf", tmp_path / "wall.gguf"), Artifact("mlx", tmp_path / "gone"))
    return Catalogue({"wall": CatalogueModel("wall", "for a test", artifacts)})


def test_a_name_means_the_catalogue_and_a_path_the_disk(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wall").mkdir()
    (tmp_path / "other").mkdir()
    assert locate("wall", catalogue) is catalogue.models["wall"]
    assert locate("./wall", catalogue) == tmp_path / "wall"
    assert locate(Path("wall"), catalogue) == tmp_path / "wall"
    assert locate("other", catalogue) == tmp_path / "other"


@pytest.mark.parametrize("reference", ["wal", "", " ", "a/b.gguf", "nul\0", "~nobody/x", "x" * 300])
def test_what_leads_to_nothing_is_named_with_what_there_is(catalogue: Catalogue, reference: str) -> None:
    with pytest.raises(ModelNotFound, match="the catalogues have wall") as caught:
        locate(reference, catalogue)
    assert ("did you mean wall?" in caught.value.message) == (reference == "wal")


def test_a_hub_s_name_gives_the_command_that_downloads() -> None:
    with pytest.raises(Unsupported) as caught:
        locate("hf:owner/name/file.gguf", Catalogue())
    assert caught.value.hint == "hf download owner/name file.gguf --local-dir models/name"
    assert "models/name/file.gguf" in caught.value.message


def test_a_catalogue_s_form_is_the_one_that_the_engine_reads(catalogue: Catalogue, tmp_path: Path) -> None:
    model = catalogue.models["wall"]
    found = choose_artifact(model, (MNN, GGUF), "engine")
    assert (found.path, found.format, found.name) == (tmp_path / "wall.gguf", "gguf", "wall")
    with pytest.raises(ModelLoadError, match="engine reads mnn; wall is there as gguf, mlx"):
        choose_artifact(model, (MNN,), "engine")
    with pytest.raises(ModelNotFound, match="gone"):
        choose_artifact(model, (MLX,), "engine")


def make(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_what_a_file_begins_with_decides_before_its_name(tmp_path: Path) -> None:
    stone = ModelFormat("stone", file="*.bin", magic=b"STONE")
    path = tmp_path / "weights.bin"
    path.write_bytes(b"GGUF and more")
    assert recognise(path, (GGUF, stone)) == ["gguf"]
    path.write_bytes(b"")
    assert recognise(path, (GGUF, stone)) == ["stone"]
    path.with_suffix(".GGUF").write_bytes(b"noise")
    assert recognise(path.with_suffix(".GGUF"), (GGUF, stone)) == ["gguf"]


def test_a_folder_must_hold_all_that_its_format_names(tmp_path: Path) -> None:
    assert recognise(make(tmp_path / "a", "llm.mnn", "llm_config.json"), (GGUF, MNN, MLX)) == ["mnn"]
    folder = make(tmp_path / "b", "config.json", "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"as mlx lacks tokenizer\.json"):
        choose_artifact(folder, (MLX,), "engine")
    both = make(tmp_path / "c", "llm.mnn", "llm_config.json", "config.json", "a.safetensors", "tokenizer.json")
    assert choose_artifact(both, (MLX,), "engine").format == "mlx"
    with pytest.raises(ModelLoadError, match="could be mnn or mlx"):
        choose_artifact(both, (MNN, MLX), "engine")


def test_the_right_file_in_a_folder_is_pointed_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", "wall.gguf", "README.md")
    with pytest.raises(ModelLoadError) as caught:
        choose_artifact(folder, (GGUF,), "engine")
    assert caught.value.hint == f"enginebay run {folder / 'wall.gguf'}"
