"""What output must match: constraints compiled for one vocabulary, as masks over tokens. Knows no engine and no request.

``ConstraintCompiler`` turns a constraint of the contract into ``Compiled``, which starts a ``Matcher`` for each sequence.
Front ends (``choice``, ``regex``, ``lark``, ``gbnf``, ``schema``) check limits, refuse what cannot be enforced and write one
grammar text; ``native`` is the only module that knows the library which compiles it.
"""

from enginebay.decode.constraints.compiler import ConstraintCompiler
from enginebay.decode.constraints.limits import REQUEST_LIMITS, Limits
from enginebay.decode.constraints.matcher import Compiled, Matcher

__all__ = ["REQUEST_LIMITS", "Compiled", "ConstraintCompiler", "Limits", "Matcher"]
