import struct

from tests.checker.topic_source import Cursor, Topic, encode_request, read_response, varint


def text(value: str) -> bytes:
    return varint(len(value) + 1) + value.encode()


def topic(error: int, name: str, topic_id: bytes, partitions: int) -> bytes:
    each = struct.pack(">hiii", 0, 0, 1, 7) + 3 * (varint(2) + struct.pack(">i", 1)) + b"\0"
    head = struct.pack(">h", error) + text(name) + topic_id + b"\0"
    return head + varint(partitions + 1) + each * partitions + struct.pack(">i", 0) + b"\0"


def test_numbers_of_variable_width_are_read_as_they_are_written() -> None:
    for number in (0, 1, 127, 128, 300, 70_000, 2**32):
        assert Cursor(varint(number)).varint() == number


def test_topics_are_read_with_their_source_and_partitions() -> None:
    broker = struct.pack(">i", 1) + text("127.0.0.1") + struct.pack(">i", 9092) + b"\0\0"
    head = struct.pack(">i", 0) + b"\0" + struct.pack(">i", 0) + varint(2) + broker
    topics = [topic(0, "requests", bytes(range(16)), 130), topic(3, "missing", bytes(16), 0)]
    answer = head + text("cluster") + struct.pack(">i", 1) + varint(3) + b"".join(topics)
    assert read_response(Cursor(answer)) == {"requests": Topic(f"cluster/{bytes(range(16)).hex()}", 130)}


def test_the_request_names_the_topics() -> None:
    request = encode_request(["a", "b"])
    assert request.startswith(struct.pack(">hh", 3, 10))
    assert request.count(bytes(16)) == 2
