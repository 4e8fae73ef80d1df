"""Messages by chance: written out token by token, so that any white space, escape or number can stand in them."""

import random
from typing import NamedTuple

from tests.support.bad_messages import VALUES

WHITE = (b" ", b"\n", b"\r\n", b"\t", b"  ")
NUMBERS = (b"0", b"-0", b"1", b"-1.5", b"1e5", b"1e400", b"-1E+400", b"1" * 30, b"9" * 5000, b"0.1000000000000000055")
TEXTS = (
    b"",
    b"m",
    b"gpt-4o",
    b"a\\nb",
    b"\\u0000",
    b"\\ud83d",
    b"\\ude00\\ud83d",
    b"\\ud83d\\ude00",
    b"\\u2028",
    b"\\\\",
    b'\\"',
    b"[{",
    b"\xc3\xa9",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\xf0\x9f\x98\x80",
    b"x" * 600,
)
NO_JSON = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"01",
    b"1.",
    b"+1",
    b".5",
    b"nul",
    b"'a'",
    b'"\n"',
    b'"\\x"',
    b'"\\u12"',
    b'"\x00"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"",
)
LITERALS = (b"null", b"true", b"false")
KEYS = (b"model", b"input", b"stream", b"x", b"\\u0078", b"m\\u006fdel", b"")
KEYS_OF_MESSAGES = (*[b"key"] * 30, None, b"", b"\xff", bytes(64 * 1024), bytes(64 * 1024 + 1))
URLS = (*[b"/v1/responses", b"/v1/chat/completions", b"/v1/embeddings", b"/v1/embeddings"] * 5, b"/v1/files", b"")
DEPTHS = (10, 197, 198, 199, 200, 250, 1000, 20_000)
TOKENS = (*WHITE, *NO_JSON, *LITERALS, *(bytes([each]) for each in b'{}[],:"\\\x00'), b"\xef\xbb\xbf")
HEADERS = (
    ("penstock-deadline-seconds", b"60"),
    ("penstock-deadline-seconds", b"\xff"),
    ("penstock-deadline-seconds", b"1e999"),
    ("penstock-result-topic", b"results"),
    ("penstock-result-topic", b"\xff"),
    ("penstock-priority", b"high"),
    ("penstock-priority", b"low"),
    ("penstock-priority", b"High"),
    ("penstock-priority", b""),
    ("penstock-priority", None),
    ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-", None),
    ("tenant", b"\xff" * 9000),
)


class Fuzzed(NamedTuple):
    """A message, and the deployment that it comes to."""

    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    narrow: bool = False
    """There, bodies are small, one embedding input is all that a request may have, and few models are configured."""
    crowded: bool = False
    """There, no further lane may be opened."""
    key: bytes | None = b"key"


def message(chance: random.Random) -> Fuzzed:
    """A message: whole, damaged, or one that is known to be bad and was damaged further."""
    known = chance.random() < 0.05
    value = chance.choice(list(VALUES.values())).value or b"" if known else Writer(chance).line()
    for _ in range(chance.choice((0, 0, 0, 0, 1, 2, 5))):
        value = damaged(chance, value)
    headers: list[tuple[str, bytes | None]] = [
        chance.choice(HEADERS) for _ in range(chance.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 120)))
    ]
    value_or_none = value if value or chance.random() < 0.5 else None
    narrow, crowded = chance.random() < 0.1, chance.random() < 0.03
    return Fuzzed(value_or_none, headers, narrow, crowded, chance.choice(KEYS_OF_MESSAGES))


class Writer:
    """Writes JSON, most of it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.wild = chance.choice((0.0, 0.0, 0.02, 0.2))

    def white(self) -> bytes:
        """White space, or none."""
        return self.chance.choice(WHITE) if self.chance.random() < 0.2 else b""

    def text(self) -> bytes:
        """A text."""
        return b'"%b"' % b"".join(self.chance.choices(TEXTS, k=self.chance.choice((1, 1, 2))))

    def any(self, depth: int = 0) -> bytes:
        """Any value."""
        chance = self.chance
        if chance.random() < self.wild:
            return chance.choice(NO_JSON)
        kind = chance.choice("ntlLO" if depth < 4 else "ntl")
        if kind == "L":
            return self.array([self.any(depth + 1) for _ in range(chance.randrange(4))])
        if kind == "O":
            names = chance.choices(KEYS, k=chance.randrange(4)) if chance.random() < self.wild else KEYS[:2]
            return self.object([(name, self.any(depth + 1)) for name in names])
        return chance.choice(NUMBERS) if kind == "n" else self.text() if kind == "t" else chance.choice(LITERALS)

    def array(self, values: list[bytes]) -> bytes:
        """A list."""
        return b"[%b%b]" % (self.white(), b",".join(self.white() + each + self.white() for each in values))

    def object(self, members: list[tuple[bytes, bytes]]) -> bytes:
        """An object."""
        written = [b'%b"%b"%b:%b%b' % (self.white(), name, self.white(), self.white(), each) for name, each in members]
        return b"{%b%b}" % (b",".join(written), self.white())

    def body(self) -> bytes:
        """A request's body."""
        chance = self.chance
        members = [(b"model", chance.choice((b'"m"', b'"gpt-4o"')))]
        members += [(b"input", chance.choice((self.text(), b'["a","b"]', b"[[1,2],[3]]", b"[1,2]", self.any())))]
        members += [(b"x", self.any())] * chance.randrange(2)
        members += [(b"stream", chance.choice((b"false", b"null", b"null", self.any())))] * chance.randrange(2)
        if chance.random() < 0.03:
            brackets = chance.choice(DEPTHS)
            members.append((b"deep", b"[" * brackets + chance.choice((b"", b"1")) + b"]" * brackets))
        return self.object(self.careless(members))

    def careless(self, members: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The members, now and then with one lost, doubled, or of another type, and in another order."""
        chance = self.chance
        if chance.random() < self.wild * 2:
            place = chance.randrange(len(members))
            other = (members[place][0], self.any())
            members[place : place + 1] = chance.choice(([], [members[place], other], [other]))
        if chance.random() < 0.3:
            chance.shuffle(members)
        return members

    def line(self) -> bytes:
        """A Batch API line."""
        chance = self.chance
        members = [
            (b"custom_id", chance.choice((b'"a"', b'"a"', self.text()))),
            (b"url", b'"%b"' % chance.choice(URLS)),
        ]
        members.append((b"body", self.body()))
        if chance.random() < 0.7:
            members.append((b"method", b'"POST"' if chance.random() < 0.95 else self.any()))
        if chance.random() < 0.1:
            members.append((chance.choice(KEYS), self.any()))
        return self.white() + self.object(self.careless(members)) + self.white()


def damaged(chance: random.Random, value: bytes) -> bytes:
    """The value, hurt in one place."""
    first = chance.randrange(len(value) + 1)
    last = min(len(value), first + chance.choice((0, 0, 1, 1, 2, 20)))
    put = chance.choice((b"", chance.choice(TOKENS), chance.randbytes(chance.randrange(3)), value[first:last] * 2))
    return value[:first] if chance.random() < 0.05 else value[:first] + put + value[last:]
