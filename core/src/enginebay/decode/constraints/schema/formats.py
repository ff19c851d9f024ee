"""The formats of JSON Schema that are enforced, as regexes for whole strings. Knows no schema.

Each accepts a part of what its standard accepts and nothing else: dates that exist, no leap seconds, host names without
two hyphens in a row. Sources: RFC 3339 (date, time, date-time, duration), 5321 (email), 1123 (hostname), 2673 and 4291
(addresses), 4122 (uuid), 3986 (uri, uri-reference), 6901 (json-pointer).
"""

from __future__ import annotations

_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_FOURTH = "(?:0[48]|[2468][048]|[13579][26])"
_LEAP_YEAR = f"(?:[0-9]{{2}}{_FOURTH}|{_FOURTH}00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_HOUR_MINUTE = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = f"{_HOUR_MINUTE}:[0-5][0-9](?:\\.[0-9]{{1,6}})?(?:[Zz]|[+-]{_HOUR_MINUTE})"

_DURATION_TIME = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)"
_DURATION_DATE = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)"

_LABEL = "[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*"
_HOST_NAME = f"{_LABEL}(?:\\.{_LABEL})*"
_SHORT_LABELS = "[^.]{1,63}(?:\\.[^.]{1,63})*"
_ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = f"{_BYTE}(?:\\.{_BYTE}){{3}}"
_H16 = "[0-9A-Fa-f]{1,4}"


def _ipv6() -> str:
    options = [f"{_H16}(?::{_H16}){{7}}", f"{_H16}(?::{_H16}){{5}}:{_IPV4}"]
    for before in range(8):
        left = f"{_H16}(?::{_H16}){{{before - 1}}}" if before else ""
        after = 7 - before
        right = [f"{_H16}(?::{_H16}){{0,{after - 1}}}"] if after else []
        if after >= 2:
            right.append(f"(?:{_H16}:){{0,{after - 2}}}{_IPV4}")
        options.append(f"{left}::(?:{'|'.join(right)})?" if right else f"{left}::")
    return f"(?:{'|'.join(options)})"


_IPV6 = _ipv6()
_PERCENT = "%[0-9A-Fa-f]{2}"
_PLAIN = "A-Za-z0-9._~!$&'()*+,;=\\-"
_SEGMENT = f"(?:[{_PLAIN}:@]|{_PERCENT})*"
_FULL_SEGMENT = f"(?:[{_PLAIN}:@]|{_PERCENT})+"
_AUTHORITY = f"(?:(?:[{_PLAIN}:]|{_PERCENT})*@)?(?:\\[{_IPV6}\\]|(?:[{_PLAIN}]|{_PERCENT})*)(?::[0-9]*)?"
_TAIL = f"(?:\\?(?:[{_PLAIN}:@/?]|{_PERCENT})*)?(?:#(?:[{_PLAIN}:@/?]|{_PERCENT})*)?"
_PATH = f"(?:/{_FULL_SEGMENT}(?:/{_SEGMENT})*|/|{_FULL_SEGMENT}(?:/{_SEGMENT})*)?"
_URI = f"[A-Za-z][A-Za-z0-9+.-]*:(?://{_AUTHORITY}(?:/{_SEGMENT})*|{_PATH}){_TAIL}"
_FIRST_SEGMENT = f"(?:[{_PLAIN}@]|{_PERCENT})+"
_RELATIVE = f"(?://{_AUTHORITY}(?:/{_SEGMENT})*|(?:/(?:{_FULL_SEGMENT}(?:/{_SEGMENT})*)?|{_FIRST_SEGMENT}(?:/{_SEGMENT})*)?){_TAIL}"

FORMATS: dict[str, tuple[str, ...]] = {
    "date": (_DATE,),
    "time": (_TIME,),
    "date-time": (f"{_DATE}[Tt]{_TIME}",),
    "duration": (f"P(?:{_DURATION_DATE}(?:{_DURATION_TIME})?|{_DURATION_TIME}|[0-9]+W)",),
    "email": (f"{_ATOM}(?:\\.{_ATOM})*@{_HOST_NAME}", f"[^@]{{1,64}}@{_SHORT_LABELS}", "[^@]*@[^@]{1,253}"),
    "hostname": (_HOST_NAME, _SHORT_LABELS, "(?s:.{1,253})"),
    "ipv4": (_IPV4,),
    "ipv6": (_IPV6,),
    "uuid": ("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",),
    "uri": (_URI,),
    "uri-reference": (f"(?:{_URI}|{_RELATIVE})",),
    "json-pointer": ("(?:/(?:[^~/]|~[01])*)*",),
}
"""For each format the regexes that a string must all match as a whole."""
