"""Plugins as they are found: good ones, and every way in which one can be bad without harming the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enginebay import registry
from enginebay.config import Config, wanted
from enginebay.errors import ConfigError, ContractError, EngineUnavailable, ModelLoadError, ModelNotFound, UnknownEngine
from enginebay.registry import survey
from enginebay.selection import choose

Install = Callable[..., Path]
InstallEngine = Callable[..., str]
Source = Callable[..., str]

OPTIONS = """
from attrs import field, frozen
from enginebay.data import bounded
@frozen
class Options:
    threads: int = field(default=4, validator=bounded(1, 64))
    preset: str = "exact"
"""


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENGINEBAY_ENGINE", "ENGINEBAY_CONFIG", "ENGINEBAY_ISOLATION", "ENGINEBAY_CONTEXT_TOKENS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def brick(tmp_path: Path) -> Path:
    """A model in the format that the engines of these tests read."""
    path = tmp_path / "wall.brick"
    path.write_bytes(b"brick")
    return path


def surveyed(name: str) -> registry.Survey:
    return next(one for one in survey() if one.name == name)


def test_an_engine_is_listed_without_being_imported(install_engine: InstallEngine) -> None:
    module = install_engine("alpha")
    entry = registry.engines()["alpha"][0]
    assert (entry.distribution, entry.version) == ("enginebay-alpha", "1.0")
    assert module not in sys.modules


def test_an_engine_is_loaded_by_name(install_engine: InstallEngine) -> None:
    install_engine("alpha")
    plugin = registry.load("alpha")
    assert plugin.info.name == "alpha"
    assert surveyed("alpha").health.healthy


@pytest.mark.parametrize("failure", ["raise OSError('libfoo.so is missing')", "import sys; sys.exit(3)", "1 +"])
def test_a_plugin_that_fails_to_import_is_quarantined(install_engine: InstallEngine, failure: str) -> None:
    install_engine("broken", source=failure)
    install_engine("alpha")
    with pytest.raises(EngineUnavailable, match=r"enginebay-broken 1\.0") as caught:
        registry.load("broken")
    assert caught.value.__cause__ is not None
    assert caught.value.hint
    assert not surveyed("broken").health.healthy
    assert str(type(caught.value.__cause__).__name__) in (surveyed("broken").health.reason or "")
    assert surveyed("alpha").health.healthy


def test_a_name_that_two_distributions_claim_is_refused(install_engine: InstallEngine) -> None:
    install_engine("twin", distribution="enginebay-twin")
    install_engine("twin", distribution="other-twin")
    with pytest.raises(ContractError, match="enginebay-twin and by other-twin"):
        registry.load("twin")
    assert not surveyed("twin").health.healthy


def test_another_contract_is_refused_by_both_numbers(install_engine: InstallEngine) -> None:
    install_engine("future", more=", contract=(2, 3)")
    with pytest.raises(ContractError, match=r"written for contract 2 to 3; this core has contract 1"):
        registry.load("future")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def generate(", "def generatte(", "implements generatte, which is no hook; did you mean generate?"),
        ("@hookimpl\ndef tokenize", "def tokenize", "lacks the hook tokenize: the module does not mark it"),
        ("@hookimpl\ndef grammar(model, constraint): ...", "", "lacks the hook grammar: the module does not have it"),
        ("name='alpha',", "name='beta',", "calls itself 'beta'"),
        ("engine = ", "motor = ", "has no attribute engine"),
        (",))\n", ",), options=dict)\n", "has options that are no attrs class"),
    ],
)
def test_a_plugin_that_does_not_fit_is_refused(
    install_engine: InstallEngine, engine_source: Source, old: str, new: str, message: str
) -> None:
    source = engine_source("alpha")
    assert old in source
    install_engine("alpha", source=source.replace(old, new))
    with pytest.raises(ContractError) as caught:
        registry.load("alpha")
    assert message in caught.value.message


@pytest.mark.parametrize("health", ["raise OSError('no driver')", "return True"])
def test_a_bad_health_check_is_an_unhealthy_engine(
    install_engine: InstallEngine, engine_source: Source, health: str
) -> None:
    source = engine_source("alpha")
    install_engine("alpha", source=source[: source.index("    return Health(")] + f"    {health}\n")
    assert not surveyed("alpha").health.healthy
    assert "health check" in (surveyed("alpha").health.reason or "")


def test_an_unknown_engine_lists_those_that_are_installed(install_engine: InstallEngine) -> None:
    install_engine("alpha")
    with pytest.raises(UnknownEngine, match=r"installed: .*alpha.*did you mean alpha\?"):
        registry.load("alhpa")


def test_a_broken_observer_does_not_hide_the_others(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = {"good": "good_observer"}, {"bad": "bad_observer"}
    install("observers", {"enginebay.observers": good | bad}, {"good_observer": "", "bad_observer": "1 / 0"})
    assert [getattr(one, "__name__", "") for one in registry.observers()] == ["good_observer"]
    assert "ZeroDivisionError" in caplog.text


# --- which engine -----------------------------------------------------------------------------------------------------


def chosen(reference: Any, config: Config | None = None, **arguments: Any) -> tuple[str, str]:
    config = config or Config()
    choice = choose(wanted(config, reference, **arguments), config)
    return choice.plugin.info.name, choice.because


def test_the_order_is_argument_environment_configuration(
    install_engine: InstallEngine, brick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha", "beta", "gamma"):
        install_engine(name)
    config = Config(engine="gamma", source="/etc/enginebay.toml")
    assert chosen(brick, config) == ("gamma", "/etc/enginebay.toml")
    monkeypatch.setenv("ENGINEBAY_ENGINE", "beta")
    assert chosen(brick, config) == ("beta", "ENGINEBAY_ENGINE")
    assert chosen(brick, config, engine="alpha") == ("alpha", "the argument")


def test_the_only_healthy_engine_that_reads_the_format_is_taken(install_engine: InstallEngine, brick: Path) -> None:
    install_engine("alpha")
    install_engine("beta", healthy=False, reason="no processor", hint="pip install processor")
    install_engine("gamma", format="stone")
    assert chosen(brick)[0] == "alpha"


def test_without_a_single_candidate_every_engine_is_listed_with_its_reason(
    install_engine: InstallEngine, brick: Path
) -> None:
    install_engine("broken", source="1 / 0")
    install_engine("beta", healthy=False, reason="no processor", hint="pip install processor")
    install_engine("gamma", format="stone")
    with pytest.raises(EngineUnavailable) as caught:
        chosen(brick)
    reasons = caught.value.fields["engines"]
    assert "ZeroDivisionError" in reasons["broken"]
    assert "no processor" in reasons["beta"]
    assert "stone" in reasons["gamma"]
    assert caught.value.hint == "pip install processor"
    assert all(f"\n  {name}: " in caught.value.message for name in reasons)


def test_several_candidates_are_no_choice(install_engine: InstallEngine, brick: Path) -> None:
    install_engine("alpha")
    install_engine("beta")
    with pytest.raises(EngineUnavailable, match="Several engines") as caught:
        chosen(brick)
    assert caught.value.hint == f"enginebay run {brick} --engine alpha"


def test_a_named_engine_that_is_not_healthy_says_why(install_engine: InstallEngine, brick: Path) -> None:
    install_engine("beta", healthy=False, reason="no processor", hint="pip install processor")
    with pytest.raises(EngineUnavailable, match="no processor") as caught:
        chosen(brick, engine="beta")
    assert caught.value.hint == "pip install processor"


def test_an_unknown_engine_says_who_named_it(brick: Path) -> None:
    with pytest.raises(UnknownEngine, match=r"'nope', which /here/enginebay.toml names"):
        chosen(brick, Config(engine="nope", source="/here/enginebay.toml"))


def test_a_wrong_format_and_a_missing_file_are_different_errors(install_engine: InstallEngine, brick: Path) -> None:
    install_engine("gamma", format="stone")
    with pytest.raises(ModelLoadError, match=r"it reads stone \(\*\.stone\)"):
        chosen(brick, engine="gamma")
    install_engine("alpha")
    with pytest.raises(ModelLoadError) as caught:
        chosen(brick, engine="gamma")
    assert caught.value.hint == f"enginebay run {brick} --engine alpha"
    with pytest.raises(ModelNotFound):
        chosen(brick.with_name("gone.brick"), engine="gamma")


def test_options_are_checked_against_the_engine_s_own_class(
    install_engine: InstallEngine, engine_source: Source, brick: Path
) -> None:
    install_engine("alpha", source=OPTIONS + engine_source("alpha", more=", options=Options"))
    config = Config(engines={"alpha": {"threads": 2, "preset": "fast"}})
    choice = choose(wanted(config, brick), config, options={"threads": 8})
    assert (choice.options.threads, choice.options.preset) == (8, "fast")
    assert choose(wanted(config, brick), config, options=choice.options).options is choice.options
    for bad, message in [
        ({"thread": 1}, "unknown key thread; did you mean threads? at engines.alpha"),
        ({"threads": 0}, "expected 1 to 64, got 0 at engines.alpha.threads"),
        ("threads=1", "expected table, got 'threads=1' at engines.alpha"),
    ]:
        with pytest.raises(ConfigError) as caught:
            choose(wanted(config, brick), config, options=bad)
        assert caught.value.message == message
