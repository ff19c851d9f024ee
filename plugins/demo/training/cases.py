"""The two tasks with one right answer: filling a JSON object from a sentence, and calling a tool.

It knows nothing about training, tokens or engines.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import attrs
from stories import article
from words import WORDS, Writer

Message = dict[str, Any]
Tool = dict[str, Any]
PROMPTS = tomllib.loads((Path(__file__).parent / "prompts.toml").read_text())


@attrs.frozen
class Case:
    """One question with one right answer: ``expected`` is the JSON value, of the object or of the whole tool call."""

    messages: list[Message]
    tools: list[Tool] | None
    expected: Any
    kind: str
    """"json" or "tool"."""


def _tool(name: str, *parameters: str, kind: str) -> Tool:
    properties = {parameter: {"type": kind} for parameter in parameters}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


WEATHER = _tool("get_weather", "city", kind="string")
ADD = _tool("add", "a", "b", kind="number")
TIME = _tool("get_time", "city", kind="string")
MULTIPLY = _tool("multiply", "a", "b", kind="number")

_FIELDS = ("name", "age", "city", "job", "color", "pet", "food", "sport")
_CLAUSES: dict[str, list[str]] = PROMPTS["json"]["clauses"]
_OWN_CLAUSES: dict[str, list[str]] = PROMPTS["json"]["own_clauses"]


def _join(clauses: list[str]) -> str:
    return clauses[0] if len(clauses) == 1 else ", ".join(clauses[:-1]) + " and " + clauses[-1]


def _clause(writer: Writer, wordings: list[str], value: str) -> str:
    wording = str(writer.choose(wordings))
    return wording.replace(" a {}", f" {article(value)} {{}}").format(value)


def _first_person(writer: Writer, facts: dict[str, str], others: list[str]) -> str:
    clauses = [_clause(writer, _OWN_CLAUSES[field], facts[field]) for field in others]
    starts = ("My name is {}", "I am {}", "Hi, I'm {}", "Hello, my name is {}", "I'm called {}")
    clauses.insert(0, writer.choose(starts).format(facts["name"]))
    return _join(clauses) if writer.chance(0.5) else ". ".join(clause[0].upper() + clause[1:] for clause in clauses)


def _age_first(writer: Writer, facts: dict[str, str], others: list[str], shape: float) -> str:
    name, age = facts["name"], facts["age"]
    rest = [field for field in others if field != "age"]
    if shape < 0.36:
        start = f"{name}, {age}"
    elif shape < 0.42:
        start = f"{name} ({age})"
    elif shape < 0.48 or "city" not in facts:
        start = f"{age}-year-old {name}"
    else:
        start = writer.choose((f"{name}, {age}, from {facts['city']}", f"{name} from {facts['city']} is {age}"))
        rest = [field for field in rest if field != "city"]
    clauses = [_clause(writer, _CLAUSES[field], facts[field]) for field in rest]
    if not clauses:
        return start
    if " is " in start:
        return f"{start} and {_join(clauses)}"
    return f"{start}{', ' if start.startswith(name) and not start.endswith(')') else ' '}{_join(clauses)}"


def _described(writer: Writer, facts: dict[str, str], others: list[str]) -> str:
    """Such as "Ada, a 36-year-old programmer, lives in London"."""
    name, age, job = facts["name"], facts["age"], facts["job"]
    aged = f"{article(age)} {age}-year-old {job}"
    rest = [_clause(writer, _CLAUSES[field], facts[field]) for field in others if field not in ("age", "job")]
    if not rest:
        return str(writer.choose((f"{name} is {aged}", f"{name}, {aged}")))
    start = writer.choose(
        (f"{name}, {aged},", f"{name}, {article(job)} {job}, is {age} and", f"The {age}-year-old {job} {name}")
    )
    return f"{start} {_join(rest)}"


def _sentence(writer: Writer, facts: dict[str, str]) -> str:
    """A text that states every fact; ``facts`` always holds a name."""
    name, choose = facts["name"], writer.choose
    others = [field for field in facts if field != "name"]
    writer.random.shuffle(others)
    end = "" if writer.chance(0.1) else "."
    shape = writer.random.random()
    if shape < 0.2:
        return _first_person(writer, facts, others) + end
    if shape < 0.3:
        return ", ".join([name, *(facts[field] for field in others)]) + end
    if shape < 0.55 and "age" in facts:
        return _age_first(writer, facts, others, shape) + end
    if shape < 0.61 and "age" in facts and "job" in facts:
        return _described(writer, facts, others) + end
    clauses = [_clause(writer, _CLAUSES[field], facts[field]) for field in others]
    if shape < 0.72 and clauses:
        if "city" in facts and writer.chance(0.4):
            start = f"{choose(('Yesterday', 'Today', 'Last week', 'In May'))} I met {name} in {facts['city']}."
            clauses = [clause for field, clause in zip(others, clauses, strict=True) if field != "city"]
        else:
            start = choose(PROMPTS["json"]["openers"]).format(name)
        return f"{start} {choose(('He', 'She'))} {_join(clauses)}{end}" if clauses else start
    if shape < 0.78 and clauses:
        return f"{choose(PROMPTS['json']['titles'])} {name} {_join(clauses)}{end}"
    if not clauses:
        return str(choose((f"This is {name}", f"The name is {name}", f"{name} is here"))) + end
    if writer.chance(0.3) and len(clauses) > 1:
        cut = writer.random.randint(1, len(clauses) - 1)
        return f"{name} {_join(clauses[:cut])}. {choose(('He', 'She'))} {_join(clauses[cut:])}{end}"
    if writer.chance(0.1) and "city" in facts and len(others) > 1:
        rest = [clause for field, clause in zip(others, clauses, strict=True) if field != "city"]
        return f"In {facts['city']} lives {name}, who {_join(rest)}{end}"
    if writer.chance(0.15) and len(clauses) > 1:
        clauses[-1] = f"{choose(('he', 'she', 'also'))} {clauses[-1]}"
    return f"{name} {_join(clauses)}{end}"


def _json_prompt(writer: Writer, fields: list[str], sentence: str) -> str:
    empty = ", ".join(f'"{field}": {0 if field == "age" else chr(34) * 2}' for field in fields)
    values = {"listed": ", ".join(fields), "spoken": _join(fields), "quoted": f"{{{empty}}}"}
    if writer.chance(0.75):
        return str(writer.choose(PROMPTS["json"]["before"]).format(**values)) + sentence
    return sentence + str(writer.choose(PROMPTS["json"]["after"]).format(**values))


def json_case(writer: Writer) -> Case:
    """Fill a JSON object with the asked fields, in the asked order, from a text that may state more than that."""
    stated = ["name", *(field for field in ("age", "city") if writer.chance(0.8))]
    stated += writer.random.sample(_FIELDS[3:], writer.choose((0, 0, 0, 1, 1, 2)))
    draw = {"name": writer.name, "age": writer.age, "city": writer.city}
    facts: dict[str, Any] = {}
    for field in stated:
        facts[field] = draw[field]() if field in draw else writer.listed_or_word(WORDS[f"{field}s"])
    fields = list(stated) if writer.chance(0.6) else writer.random.sample(stated, writer.random.randint(1, len(stated)))
    if writer.chance(0.3):
        writer.random.shuffle(fields)
    sentence = _sentence(writer, {field: str(value) for field, value in facts.items()})
    prompt = _json_prompt(writer, fields, sentence)
    return Case([{"role": "user", "content": prompt}], None, {field: facts[field] for field in fields}, "json")


def tool_case(writer: Writer, plain: bool = True) -> Case:
    """A question that one of the offered tools answers; ``plain`` keeps to the tools ``get_weather`` and ``add``."""
    draw = writer.random.random()
    if plain:
        tool = WEATHER if draw < 0.5 else ADD
    else:
        tool = WEATHER if draw < 0.42 else ADD if draw < 0.84 else TIME if draw < 0.92 else MULTIPLY
    name = tool["function"]["name"]
    if tool in (WEATHER, TIME):
        city = writer.city()
        values, arguments = [city], {"city": city}
    else:
        values = [writer.addend(), writer.addend()]
        arguments = {"a": json.loads(values[0]), "b": json.loads(values[1])}
    question = writer.choose(PROMPTS["tools"][name]).format(*values)
    tools = [WEATHER, ADD]
    if not plain and writer.chance(0.4):
        tools = [other for other in (WEATHER, ADD, TIME, MULTIPLY) if other is tool or writer.chance(0.5)]
    if tool not in tools:
        tools.append(tool)
    if not plain and writer.chance(0.3):
        writer.random.shuffle(tools)
    return Case([{"role": "user", "content": question}], tools, {"name": name, "arguments": arguments}, "tool")


def answer(case: Case) -> str:
    """The text that the model should give for a case."""
    text = json.dumps(case.expected, ensure_ascii=False)
    return f"<tool_call>{text}</tool_call>" if case.kind == "tool" else text
