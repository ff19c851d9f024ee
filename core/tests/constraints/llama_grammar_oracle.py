"""Answers with llama.cpp's own grammar code what may follow each text over a small alphabet. Run as a process of its own.

Reads one JSON object a line: ``grammar``, ``alphabet`` and ``length``. Writes one a line: null where llama.cpp refuses the
grammar, or for each allowed text over the alphabet the characters that may follow, with ``$`` for an end.
llama.cpp ends or hangs its process on some grammars: this one has limits on memory and on the time of a grammar.
"""

import ctypes
import json
import math
import resource
import signal
import sys

import llama_cpp

SECONDS_A_GRAMMAR = 5
MEMORY_BYTES = 4 << 30


def main(model_path: str) -> None:
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(model_path.encode(), parameters)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(SECONDS_A_GRAMMAR)
        answer = follow(vocabulary, request["grammar"], request["alphabet"], request["length"])
        signal.alarm(0)
        print(json.dumps(answer), flush=True)


def follow(vocabulary, grammar: str, alphabet: str, length: int) -> dict[str, str] | None:
    sampler = llama_cpp.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
    if not sampler:
        return None
    tokens = {token_of(vocabulary, char): char for char in alphabet}
    tokens[llama_cpp.llama_vocab_eos(vocabulary)] = "$"
    out: dict[str, str] = {}

    def visit(state, text: str) -> None:
        data = (llama_cpp.llama_token_data * len(tokens))(*((token, 0.0, 0.0) for token in tokens))
        array = llama_cpp.llama_token_data_array(data, len(tokens), -1, False)
        llama_cpp.llama_sampler_apply(state, ctypes.byref(array))
        allowed = [entry.id for entry in data if entry.logit != -math.inf]
        out[text] = "".join(tokens[token] for token in allowed)
        if len(text) < length:
            for token in allowed:
                if tokens[token] != "$":
                    copy = llama_cpp.llama_sampler_clone(state)
                    llama_cpp.llama_sampler_accept(copy, token)
                    visit(copy, text + tokens[token])
                    llama_cpp.llama_sampler_free(copy)

    visit(sampler, "")
    llama_cpp.llama_sampler_free(sampler)
    return out


def token_of(vocabulary, char: str) -> int:
    found = (llama_cpp.llama_token * 8)()
    count = llama_cpp.llama_tokenize(vocabulary, char.encode(), len(char.encode()), found, 8, False, False)
    assert count == 1, f"{char!r} is {count} tokens"
    return found[0]


if __name__ == "__main__":
    main(sys.argv[1])
