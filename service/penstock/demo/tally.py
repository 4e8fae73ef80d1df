"""What was sent and what came back, read from the topics themselves: every request must have exactly one answer."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from penstock.core.decision import status_of
from penstock.core.identity import parse_result_id
from penstock.kafka.record_reader import RecordReader
from penstock.kafka.request_producer import custom_id_of
from penstock.kafka.topics import Cluster
from penstock.settings import KafkaSettings

POLL_SECONDS = 0.25
SHOWN = 5
SUCCESS = range(200, 300)


class Place(NamedTuple):
    """Partition and offset of a request."""

    partition: int
    offset: int


class Sent(NamedTuple):
    """A request as it stands in Kafka."""

    custom_id: str | None
    timestamp_ms: int


class Response(msgspec.Struct):
    """What is read of a result's response; its status comes in the provider's type."""

    status_code: Any = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class Result(msgspec.Struct):
    """What is read of a result."""

    custom_id: str = ""
    response: Response | str | None = None


RESULT = msgspec.json.Decoder(Result)


class Answer(NamedTuple):
    """A result or a dead letter.

    Attributes:
        custom_id: of a result; None for a dead letter, which has the original message.
        reason: why it is a dead letter; empty for a result.
        timestamp_ms: when it was published.
        status_code: of a result; 0 when there was no response.
    """

    custom_id: str | None
    reason: str
    timestamp_ms: int
    status_code: int


@dataclass(slots=True)
class Tally:
    """Requests and answers by place.

    Args:
        settings: brokers and topics.
        cluster: ids of the cluster and its topics, which stand in every result's id.
    """

    settings: KafkaSettings
    cluster: Cluster
    requests: dict[Place, Sent] = field(default_factory=dict)
    answers: dict[Place, Answer] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    samples: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """The first successful result of each kind: custom id and body."""

    @property
    def request_topic(self) -> str:
        """The one topic that is sent to."""
        return self.settings.request_topics[0]

    def reader(self) -> RecordReader:
        """Reads requests, results and dead letters, from the first."""
        topics = (self.request_topic, self.settings.result_topic, self.settings.dead_letter_topic)
        return RecordReader(self.settings, topics, from_beginning=True)

    async def follow(self, reader: RecordReader) -> None:
        """Take in whatever comes, for ever."""
        while True:
            self.take(await reader.poll(POLL_SECONDS))

    async def finish(self, reader: RecordReader) -> None:
        """Take in everything up to the topics' present ends."""
        ends = await reader.ends()
        while not await reader.has_passed(ends):
            self.take(await reader.poll(POLL_SECONDS))

    def take(self, records: list[Any]) -> None:
        """Take records in."""
        for record in records:
            if record.topic == self.request_topic:
                place = Place(record.partition, record.offset)
                self.requests[place] = Sent(custom_id_of(record.value), record.timestamp)
            else:
                self.take_answer(record)

    def take_answer(self, record: Any) -> None:
        """Take one result or dead letter in."""
        headers = {name: (value or b"").decode() for name, value in record.headers}
        result_id = headers.get("penstock-result-id", "")
        place = self.place_of(result_id)
        if place is None:
            self.strangers.append(f"{record.topic}-{record.partition}@{record.offset} has id {result_id!r}")
            return
        if place in self.answers:
            self.repeated.append(result_id)
            return
        if record.topic == self.settings.dead_letter_topic:
            reason = headers.get("penstock.error.reason", "")
            self.answers[place] = Answer(None, reason, record.timestamp, 0)
            return
        result = RESULT.decode(record.value)
        response = result.response if isinstance(result.response, Response) else None
        status = (status_of(response.status_code) or 0) if response else 0
        self.answers[place] = Answer(result.custom_id, "", record.timestamp, status)
        if response and status in SUCCESS:
            self.samples.setdefault(kind_of(response.body), (result.custom_id, bytes(response.body)))

    def place_of(self, result_id: str) -> Place | None:
        """The request that a result's id names; None for an id that is not of this topic."""
        origin = parse_result_id(result_id, self.cluster.id)
        if origin is None or origin.topic_id != self.cluster.topics[self.request_topic].id.bytes:
            return None
        return Place(origin.partition, origin.offset)

    @property
    def dead_letters(self) -> list[Answer]:
        """The answers that are dead letters."""
        return [answer for answer in self.answers.values() if answer.custom_id is None]

    @property
    def errors(self) -> int:
        """Results that are no success."""
        return sum(each.custom_id is not None and each.status_code not in SUCCESS for each in self.answers.values())

    def latencies_seconds(self) -> list[float]:
        """From each request's timestamp to that of its answer, in rising order."""
        return sorted(
            (answer.timestamp_ms - self.requests[place].timestamp_ms) / 1000
            for place, answer in self.answers.items()
            if place in self.requests
        )

    def faults(self, sent: int, broken: int | None) -> list[str]:
        """Everything that is not as promised; empty when each request has exactly one answer, its own.

        Args:
            sent: messages that were sent.
            broken: how many of them cannot be requests, when that is known.
        """
        found = []
        if len(self.requests) != sent:
            found.append(f"{sent} messages were sent, the topic holds {len(self.requests)}")
        if missing := [place for place in self.requests if place not in self.answers]:
            names = (f"{self.requests[place].custom_id or 'no custom_id'} at {tuple(place)}" for place in missing)
            found.append(f"{len(missing)} requests have no answer: {some(names)}")
        if self.repeated:
            found.append(f"{len(self.repeated)} answers came again: {some(self.repeated)}")
        strangers = [*self.strangers, *(str(tuple(place)) for place in self.answers if place not in self.requests)]
        if strangers:
            found.append(f"{len(strangers)} answers belong to no request: {some(strangers)}")
        results = {place: each for place, each in self.answers.items() if each.custom_id is not None}
        wrong = [
            f"{self.requests[place].custom_id} got the result of {each.custom_id}"
            for place, each in results.items()
            if place in self.requests and each.custom_id != self.requests[place].custom_id
        ]
        if wrong:
            found.append(f"{len(wrong)} results carry another custom_id: {some(wrong)}")
        if broken is not None and len(self.dead_letters) != broken:
            reasons = Counter(each.reason for each in self.dead_letters)
            found.append(f"{broken} messages cannot be requests, {len(self.dead_letters)} dead letters came: {reasons}")
        return found


def kind_of(body: msgspec.Raw) -> str:
    """What sort of answer a body is: the model that gave it."""
    try:
        return msgspec.json.decode(body, type=Kind).model
    except msgspec.ValidationError:
        return "a text"  # some servers write the body as a JSON string


class Kind(msgspec.Struct):
    """What is read of a response's body."""

    model: str = ""


def some(texts: Any) -> str:
    """The first few of many."""
    shown = [text for _, text in zip(range(SHOWN + 1), texts, strict=False)]
    return ", ".join(shown[:SHOWN]) + (", …" if len(shown) > SHOWN else "")
