"""A model's template makes the prompt that its authors meant, and a hostile one costs an error, not the process."""

from __future__ import annotations

import pytest

from enginebay import template
from enginebay.chat import render
from enginebay.errors import ModelLoadError, RequestError, Unsupported

HELLO = [{"role": "user", "content": "Hello"}]


def test_a_usual_template() -> None:
    usual = (
        "{%- for message in messages %}\n"
        "<|{{ message.role }}|>{{ message['content'] | trim ~ eos_token }}\n"
        "{%- endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    messages = [{"role": "user", "content": " Hello "}, {"role": "assistant", "content": "Hi"}]
    expected = "<|user|>Hello</s><|assistant|>Hi</s><|assistant|>"
    assert render(usual, messages, special_text={"eos_token": "</s>"}) == expected
    macros = "{% macro shout(text, n) %}{% for i in range(n) %}{{ text }}!{% endfor %}{% endmacro %}{{ shout('a', 3) }}"
    assert render(macros, HELLO) == "a!a!a!"
    assert render("{{ 7 % 4 }} {{ 'x%03d' % 7 }} {{ [1] + [2] }} {{ 2 ** 10 }}", HELLO) == "3 x007 [1, 2] 1024"


@pytest.mark.parametrize(
    "hostile",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(9) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ [0] * 10 ** 10 }}",
        "{{ 9 ** 99999 }}",
        "{{ '%1000000000d' % 1 }}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{% for",
        "x" * (template.MAX_TEMPLATE_CHARACTERS + 1),
    ],
)
def test_a_hostile_template_is_an_error(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "CPU_SECONDS", 0.3)
    with pytest.raises((ModelLoadError, RequestError)):
        render(hostile, HELLO)


def test_a_template_may_refuse_messages() -> None:
    with pytest.raises(RequestError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", HELLO)


@pytest.mark.parametrize("messages", [[], [{"content": "x"}], [{"role": "user", "content": 3}], ["x"]])
def test_malformed_messages_are_refused(messages: list) -> None:
    with pytest.raises(RequestError, match="messages"):
        render("x", messages)


def test_no_template_is_said() -> None:
    with pytest.raises(Unsupported, match="no chat template"):
        render(None, HELLO)
