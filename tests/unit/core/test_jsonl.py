from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.jsonl import LineSplitter, one_line

CONTENT = st.lists(st.sampled_from([b"\n", b"\r", b"a", b"{}", "\u2028".encode(), "\u0085".encode(), b"\x00"])).map(
    b"".join
)


def split(content: bytes, cuts: list[int]) -> list[bytes]:
    splitter = LineSplitter()
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    lines = [line for low, high in pairwise(edges) for line in splitter.feed(content[low:high])]
    return [*lines, *splitter.close()]


@given(CONTENT, st.lists(st.integers(0, 60), max_size=8))
def test_lines_are_the_same_wherever_blocks_end(content: bytes, cuts: list[int]) -> None:
    whole = content.split(b"\n")
    assert split(content, cuts) == (whole if whole[-1] else whole[:-1])


def test_only_line_feeds_end_lines() -> None:
    line = '{"t":"a\u2028b\u0085c\u2029\x0b\x0c\r"}'.encode()
    assert split(line + b"\n" + line, []) == [line, line]


def test_empty_lines_are_kept_and_a_missing_last_line_feed_is_forgiven() -> None:
    assert split(b"a\n\n\nb", [1, 2]) == [b"a", b"", b"", b"b"]


def test_a_splitter_can_be_used_again_after_its_end() -> None:
    splitter = LineSplitter()
    splitter.feed(b"half")
    assert list(splitter.close()) == [b"half"]
    assert list(splitter.close()) == []
    assert splitter.feed(b"x\n") == [b"x"]


def test_a_line_has_no_breaks_and_the_same_length() -> None:
    assert one_line(b'{\r\n"a":\n"\\n"}') == b'{  "a": "\\n"}'
    kept = b'{"a":"\\n\xe2\x80\xa8"}'
    assert one_line(kept) is kept
