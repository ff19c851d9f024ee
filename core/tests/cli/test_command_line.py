"""The command line as programs and people use it: what is on stdout and stderr, and the exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ENGINEBAY = str(Path(sysconfig.get_path("scripts"), "enginebay"))
LONG = ("run", "echo", "--raw", "-p", "again " * 200, "-t", "0", "--option", "step_seconds=0.02")

NOISY = """
import os
from attrs import evolve
from enginebay.hookspecs import hookimpl
from enginebay_echo import plugin
from enginebay_echo.plugin import *
from enginebay_echo.plugin import health
engine = evolve(plugin.engine, name="noisy")

@hookimpl
def load(request):
    os.write(1, b"native noise")
    print("python noise", flush=True)
    return plugin.load(request)
"""


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and home, and no variables."""
    for name in [name for name in os.environ if name.startswith("ENGINEBAY_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def call(*arguments: str, stdin: str | bytes = b"") -> subprocess.CompletedProcess[str]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([ENGINEBAY, *arguments], input=data, capture_output=True, timeout=120, check=False)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def installed() -> str:
    return ", ".join(row["name"] for row in json.loads(call("engines", "--json").stdout))


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """A command of its own. A shell that runs the tests in its background has them ignore Ctrl-C, which would be inherited."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen([ENGINEBAY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)


# --- run --------------------------------------------------------------------------------------------------------------


def test_text_goes_to_stdout_and_nothing_else_goes_anywhere() -> None:
    done = call("run", "echo", "-p", "Hello, wörld 🙂", "-t", "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, wörld 🙂\n", "")


@pytest.mark.parametrize("option", [("-p", "-"), ()])
def test_a_prompt_comes_from_a_pipe(option: tuple[str, ...]) -> None:
    assert call("run", "echo", "-t", "0", *option, stdin="from a pipe").stdout == "from a pipe\n"


def test_json_is_one_object_with_all_that_is_known() -> None:
    done = call("run", "echo", "-p", "Hello", "--json", "--temperature", "0", "--max-tokens", "3")
    result = json.loads(done.stdout)
    assert done.stderr == ""
    assert (result["text"], result["finish_reason"], result["engine"]) == ("Hel", "length", "echo")
    assert len(result["tokens"]) == result["usage"]["completion_tokens"] == 3
    assert result["timings"]["generated_tokens_per_second"] > 0


def test_constraints_and_stop_strings_reach_the_engine(nothing_configured: Path) -> None:
    (nothing_configured / "schema.json").write_text('{"type": "object", "properties": {"a": {"type": "boolean"}}}')
    (nothing_configured / "yes.gbnf").write_text('root ::= "yes"')
    assert call("run", "echo", "-p", "blue", "--choice", "red,green").stdout in ("red\n", "green\n")
    assert call("run", "echo", "-p", "x", "--regex", "[0-9]{4}").stdout.strip().isdecimal()
    assert call("run", "echo", "-p", "x", "--grammar", "yes.gbnf").stdout == "yes\n"
    assert isinstance(json.loads(call("run", "echo", "-p", "x", "--json-schema", "schema.json").stdout), dict)
    assert call("run", "echo", "-t", "0", "-p", "one two", "--stop", " ").stdout == "one\n"


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("run", "echo", "-p", "x", "-e", "nope"), 2, "unknown_engine"),
        (("run", "echo", "-p", "x", "--option", "nope=1"), 2, "config_error"),
        (("run", "echo", "-p", "x", "--option", "step_seconds=-1"), 2, "config_error"),
        (("run", "echo", "-p", "x", "--context-tokens", "-5"), 2, "config_error"),
        (("run", "echo", "-p", "x", "-c", "gone.toml"), 2, "config_error"),
        (("run", "echo", "-p", "x", "-e", "broken"), 2, "engine_unavailable"),
        (("run", "no/such.gguf", "-p", "x"), 1, "model_not_found"),
        (("run", "hf:owner/name", "-p", "x"), 1, "unsupported"),
        (("run", "schema.json", "-p", "x", "-e", "echo"), 1, "model_load_error"),
        (("run", "echo", "-p", "x", "-t", "-1"), 1, "invalid_request"),
        (("run", "echo", "-p", "x", "-n", "0"), 1, "invalid_request"),
        (("run", "echo", "-p", "x", "--regex", "("), 1, "grammar_error"),
        (("run", "echo", "-p", "x" * 100, "--context-tokens", "16"), 1, "context_overflow"),
        (("run", "echo", "-p", "x", "--option", "failure=error"), 1, "model_load_error"),
        (("run", "echo", "-p", "xyz", "--option", "failure=error", "--option", "failure_at=2"), 1, "generation_error"),
    ],
)
def test_a_failure_has_a_status_a_code_and_words(
    install_engine: Callable[..., str], arguments: tuple[str, ...], status: int, code: str
) -> None:
    install_engine("broken", source="1 / 0")
    Path("schema.json").write_text("{}")
    done = call(*arguments, "--json")
    assert (done.returncode, json.loads(done.stderr)["error"]["code"]) == (status, code)
    assert done.stdout == ""


def test_a_failure_is_a_message_and_a_hint() -> None:
    done = call("run", "echo", "-p", "x", "-e", "ecko")
    assert done.stderr == (
        f"error: There is no engine 'ecko', which the argument names (installed: {installed()}); did you mean echo?\n"
        "hint: enginebay engines\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "echo", "--nonsense"),
        ("run", "echo", "-p", "x", "-n", "many"),
        ("run", "echo", "-p", "x", "--choice", "a", "--regex", "b"),
        ("run", "echo", "-p", "x", "--json-schema", "gone.json"),
        ("run", "echo", "-p", "x", "--json-schema", "bad.json"),
        ("run", "echo", "-p", "x", "--option", "step_seconds"),
        ("run", "echo", "-p", "x", "--isolation", "thread"),
        ("nonsense",),
        ("check", "echo", "--model"),
    ],
)
def test_a_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    Path("bad.json").write_text("{")
    done = call(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_what_a_library_prints_does_not_reach_stdout(install_engine: Callable[..., str]) -> None:
    install_engine("noisy", source=NOISY)
    done = call("run", "echo", "-e", "noisy", "-p", "Hello", "-t", "0")
    assert (done.returncode, done.stdout) == (0, "Hello\n")
    assert "native noise" in done.stderr
    assert "python noise" in done.stderr


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    with start(*LONG) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, b"\n")


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with start(*LONG) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert stderr == b""


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_model_cannot_send_control_sequences_to_a_terminal() -> None:
    prompt = "\x1b[31mred\x9b2J"
    assert call("run", "echo", "-t", "0", "-p", prompt).stdout == prompt + "\n"
    shown = terminal("run", "echo", "-t", "0", "-p", prompt)
    assert "red" in shown
    assert "\x1b[31mred" not in shown
    assert "\x9b" not in shown


def terminal(*arguments: str) -> str:
    """Everything that a terminal shows of a command."""
    ours, theirs = os.openpty()
    process = subprocess.Popen([ENGINEBAY, *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux says so when the other side is closed
        pass
    assert process.wait(timeout=60) == 0
    os.close(ours)
    return shown.decode()


# --- the other commands -----------------------------------------------------------------------------------------------


def test_engines_are_listed_with_what_is_wrong(install_engine: Callable[..., str]) -> None:
    install_engine("broken", source="raise OSError('libfoo.so is missing')")
    install_engine("poor", healthy=False, reason="no processor", hint="pip install processor")
    done = call("engines", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0
    assert rows["echo"]["health"]["healthy"]
    assert rows["echo"]["formats"] == ["echo"]
    assert "step_seconds" in rows["echo"]["options"]
    assert "libfoo.so is missing" in rows["broken"]["health"]["reason"]
    assert rows["poor"]["health"]["hint"] == "pip install processor"
    text = call("engines").stdout
    assert "broken 1.0: quarantined" in text
    assert "poor 1.0: not healthy\n" in text


def test_tokens_of_a_text() -> None:
    ids = [int(word) for word in call("tokenize", "echo", "Hé").stdout.split()]
    row = json.loads(call("tokenize", "echo", "-", "--json", stdin="Hé").stdout)
    assert row["tokens"] == ids
    assert row["engine"] == "echo"


def test_a_conversation_through_a_pipe() -> None:
    done = call("chat", "echo", "-t", "0", stdin="first\n\nsecond\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "first\nsecond\n", "")


def test_a_plugin_adds_a_command(install: Callable[..., Path]) -> None:
    source = "import click\n@click.command()\ndef hello(): click.echo('hello')\n"
    points = {"hello": "hello_command:hello", "bad": "bad_command:hello", "odd": "odd_command:hello"}
    install(
        "enginebay-hello",
        {"enginebay.commands": points},
        {"hello_command": source, "bad_command": "1 / 0", "odd_command": "hello = 3"},
    )
    assert call("hello").stdout == "hello\n"
    listed = call("--help").stdout
    assert "hello" in listed
    assert "From enginebay-hello." in listed
    assert call("bad").returncode == 2
    assert "ZeroDivisionError" in call("bad").stderr
    assert call("odd").returncode == 1


def test_without_the_extra_it_says_what_to_install(site: Path) -> None:
    (site / "click.py").write_text("raise ImportError")
    done = call("engines")
    assert (done.returncode, done.stdout) == (2, "")
    assert "hint: pip install 'enginebay[cli]'" in done.stderr


def test_the_kit_runs_against_an_engine() -> None:
    done = call("check", "echo", "-k", "e16", "-q")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert call("check", "nope").returncode == 2


def test_a_new_engine_is_written_once(nothing_configured: Path) -> None:
    done = call("new-engine", "toy")
    assert done.returncode == 0, done.stderr
    assert (nothing_configured / "enginebay-toy/pyproject.toml").is_file()
    assert call("new-engine", "toy").returncode == 2
    assert call("new-engine", "../toy").returncode == 2
