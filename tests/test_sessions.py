"""Sessions move between engines, and a damaged file is refused without touching what is open."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from engines import ENGINES

import enginebay
from enginebay import session_file
from enginebay.errors import SessionError

MUTANTS = int(os.environ.get("ENGINEBAY_TEST_SESSION_MUTANTS", "3000"))
TURNS = ["Hello!", "Tell me a story about a cat.", "Who are you?"]
OPTIONS: dict[str, Any] = {"max_tokens": 40, "temperature": 0.7, "seed": 9}
Models = dict[str, enginebay.Model]


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEBAY_DATA", str(tmp_path_factory.getbasetemp() / "data"))


@pytest.mark.parametrize("source", ENGINES)
def test_a_session_continues_on_every_engine(models: Models, source: str, tmp_path: Path) -> None:
    whole = models[source].session()
    for turn in TURNS:
        whole.send(turn, **OPTIONS)
    begun = models[source].session()
    begun.send(TURNS[0], **OPTIONS)
    begun.save(tmp_path / "begun.session")
    assert (tmp_path / "begun.session").stat().st_mode & 0o777 == 0o600
    for model in models.values():
        continued = model.load_session(tmp_path / "begun.session")
        for turn in TURNS[1:]:
            continued.send(turn, **OPTIONS)
        assert continued.tokens == whole.tokens, model.info.engine
        assert continued.messages == whole.messages


def test_the_engines_own_state_is_used_where_it_fits(tmp_path: Path) -> None:
    for engine in ENGINES:
        with enginebay.open("demo", engine=engine, isolation="inline") as model:
            if "save_session" not in model.info.capabilities:
                continue
            session = model.session()
            session.send("Tell me a story about a cat.", max_tokens=60, temperature=0)
            session.save(tmp_path / "session")
        with enginebay.open("demo", engine=engine, isolation="inline") as fresh:
            continued = fresh.load_session(tmp_path / "session")
            result = continued.send("Hello!", max_tokens=10, temperature=0)
            assert result.usage.cached_tokens >= len(session.tokens) - 2


def test_a_foreign_key_restores_the_portable_part_only(models: Models, tmp_path: Path, monkeypatch: Any) -> None:
    model = next(iter(models.values()))
    session = model.session()
    session.send("Hello!", **OPTIONS)
    session.save(tmp_path / "session")
    assert session_file.read(tmp_path / "session")[1]
    monkeypatch.setenv("ENGINEBAY_DATA", str(tmp_path / "somebody-else"))
    header, native = session_file.read(tmp_path / "session")
    assert header.tokens == session.tokens
    assert native == b""


def test_mutants_are_refused_and_the_conversation_goes_on(models: Models, tmp_path: Path) -> None:
    model = next(iter(models.values()))
    session = model.session()
    session.send(TURNS[0], **OPTIONS)
    good = tmp_path / "good"
    session.save(good)
    body, chance = good.read_bytes(), random.Random(1)
    bad = tmp_path / "bad"
    for i in range(MUTANTS):
        mutant = bytearray(body)
        match i % 4:
            case 0:
                mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
            case 1:
                del mutant[chance.randrange(len(mutant)) :]
            case 2:
                at = chance.randrange(len(mutant))
                mutant[at : at + chance.randrange(1, 64)] = chance.randbytes(chance.randrange(1, 64))
            case _:
                at = chance.randrange(16)
                mutant[at : at + 4] = chance.randbytes(4)
        if bytes(mutant) == body:
            continue
        bad.write_bytes(mutant)
        with pytest.raises(SessionError):
            model.load_session(bad)
    expected = models[model.info.engine].load_session(good)
    assert session.send(TURNS[1], **OPTIONS).tokens == expected.send(TURNS[1], **OPTIONS).tokens


def test_another_vocabulary_is_refused_by_name(models: Models, tmp_path: Path) -> None:
    session = next(iter(models.values())).session()
    session.send("Hello!", **OPTIONS)
    session.save(tmp_path / "session")
    with (
        enginebay.open("echo", engine="echo", isolation="inline") as echo,
        pytest.raises(SessionError, match="another vocabulary"),
    ):
        echo.load_session(tmp_path / "session")
    with pytest.raises(SessionError):
        enginebay.load_session(tmp_path / "absent")
