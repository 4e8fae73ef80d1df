"""A gathering of polls: messages validated, grouped by lane, and packed into chunks."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from penstock.core.chunk import Headers, Manifest, NewChunk, pack_chunk, received_at
from penstock.core.errors import RejectedMessage
from penstock.core.identity import new_id
from penstock.core.lane import DEAD_LETTERS, LaneKey, LanePolicy, Lanes
from penstock.core.reasons import rejected
from penstock.core.request import Request, RequestLimits, parse_request
from penstock.core.result import KEY_BYTES_MAX, passed
from penstock.core.token import estimate
from penstock.core.turn import SHARE_REQUESTS, USUAL, Priority, Turn, share_of
from penstock.core.wishes import NO_WISHES, Wishes, read_wishes


class Message(Protocol):
    """A Kafka record, as far as it is read; ``timestamp`` in milliseconds."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Source(NamedTuple):
    """A topic of a cluster, by id; ``incarnation`` is that of the partitions whose messages are taken."""

    cluster_id: str
    topic: str
    topic_id: uuid.UUID
    incarnation: int = 0


class Kind(NamedTuple):
    """What the requests of a chunk have in common."""

    lane: LaneKey
    source: Source
    turn: Turn = USUAL


class Group(NamedTuple):
    """The requests of one kind, not yet packed: bodies, and their manifest without lengths.

    ``messages`` are what the requests were read from, for as long as their lane may still be refused.
    """

    manifest: Manifest
    bodies: list[bytes]
    messages: list[Message]


class Destination(NamedTuple):
    """A group, and the policy of its lane."""

    group: Group
    policy: LanePolicy


@dataclass(frozen=True, slots=True)
class Rules:
    """What intake validates against."""

    account: str
    lanes: Lanes
    limits: RequestLimits
    result_topic: str
    dead_letter_topic: str
    result_topics: frozenset[str]
    share_requests: int = SHARE_REQUESTS


@dataclass(slots=True)
class Gathering:
    """Messages of several polls, sorted by kind. Not thread-safe: one thread fills it, then one packs it."""

    rules: Rules
    now: float
    """The database's clock in Unix seconds: deadlines count from it."""
    groups: dict[Kind, Group] = field(default_factory=dict)
    rejected: dict[tuple[str, str], int] = field(default_factory=dict)
    """Count by (topic, code)."""

    def sort(self, source: Source, messages: Iterable[Message]) -> None:
        """Take messages of one topic in; CPU work of about 5 µs each: call it off the loop."""
        rules = self.rules
        destinations: dict[tuple[str, str, str, Priority], Destination] = {}
        for message in messages:
            try:
                request = parse_request(message.value, rules.limits)
                wishes = read_wishes(message.headers, rules.result_topics) if message.headers else NO_WISHES
                wanted = request.url, request.model, wishes.tenant, wishes.priority
                if (found := destinations.get(wanted)) is None:
                    found = destinations[wanted] = self.destination(source, request, wishes)
                group, policy = found
                if request.inputs > policy.inputs_max:
                    raise rejected("too_many_inputs", limit=policy.inputs_max)
                if message.key and len(message.key) > KEY_BYTES_MAX:
                    raise rejected("key_too_large", limit=KEY_BYTES_MAX)
            except RejectedMessage as rejection:
                self.reject(source, message, rejection)
                continue
            manifest = group.manifest
            manifest.custom_ids.append(request.custom_id)
            manifest.headers.append(passed(message.headers) if message.headers else [])
            manifest.deadlines.append(self.now + min(policy.deadline_seconds, wishes.seconds))
            manifest.result_topics.append(wishes.result_topic or policy.result_topic or rules.result_topic)
            manifest.tokens.append(estimate(len(request.body)))
            manifest.inputs.append(request.inputs)
            self.note_origin(manifest, message, source.incarnation)
            group.bodies.append(request.body)
            group.messages.append(message)

    def destination(self, source: Source, request: Request, wishes: Wishes) -> Destination:
        """Where requests like this one go.

        Raises:
            RejectedMessage: the model is not among those allowed.
        """
        lanes = self.rules.lanes
        if lanes.models is not None and request.model not in lanes.models:
            raise rejected("model_not_allowed")
        account = lanes.account(source.topic, wishes.tenant, request.url, request.model) or self.rules.account
        bare = LaneKey(account, request.url, request.model, "")
        policy = lanes.policy(bare)
        lane = bare._replace(completion_window=policy.completion_window)
        share = share_of(wishes.tenant) if wishes.tenant else 0
        return Destination(self.group(Kind(lane, source, Turn(wishes.priority, share))), policy)

    def reject(self, source: Source, message: Message, rejection: RejectedMessage) -> None:
        """Keep a message that cannot be a request, with its original bytes, for the dead-letter topic."""
        group = self.group(Kind(DEAD_LETTERS, source))
        self.note_origin(group.manifest, message, source.incarnation)
        group.manifest.custom_ids.append("")
        group.manifest.headers.append(list(message.headers))
        group.manifest.deadlines.append(self.now + self.rules.lanes.defaults.deadline_seconds)
        group.manifest.result_topics.append(self.rules.dead_letter_topic)
        group.manifest.tokens.append(0)
        group.manifest.inputs.append(0)
        group.manifest.reasons.append((rejection.code, rejection.reason))
        if message.value is None:
            group.manifest.nulls.append(len(group.bodies))
        group.bodies.append(message.value or b"")
        count = (source.topic, rejection.code)
        self.rejected[count] = self.rejected.get(count, 0) + 1

    def note_origin(self, manifest: Manifest, message: Message, incarnation: int) -> None:
        """Where a message came from, and when."""
        manifest.partitions.append(message.partition)
        manifest.note_incarnation(incarnation)
        manifest.offsets.append(message.offset)
        manifest.keys.append(message.key)
        manifest.received.append(received_at(message.timestamp / 1000, self.now))

    def group(self, kind: Kind) -> Group:
        """The group of a kind, made when it is first needed."""
        group = self.groups.get(kind)
        if group is None:
            source = kind.source
            manifest = Manifest.empty(source.cluster_id, source.topic, source.topic_id)
            group = self.groups[kind] = Group(manifest, [], [])
        return group

    def lanes(self) -> list[LaneKey]:
        """The lanes that must be open for what is gathered."""
        return list({kind.lane for kind, group in self.groups.items() if group.bodies})

    def pack(self, lane_ids: Mapping[LaneKey, int]) -> list[tuple[int, NewChunk]]:
        """The gathering's chunks, by lane id; CPU work: call it off the loop.

        Requests of a lane that has no id, because too many lanes are open, become dead letters here.
        """
        for kind, group in list(self.groups.items()):
            if kind.lane not in lane_ids and not kind.lane.dead:
                del self.groups[kind]
                for message in group.messages:
                    self.reject(kind.source, message, rejected("lane_limit"))
            group.messages.clear()
        groups = together(self.groups, self.rules.share_requests)
        return [
            (lane_ids[kind.lane], pack_group(kind, group, self.now)) for kind, group in groups.items() if group.bodies
        ]


def together(groups: Mapping[Kind, Group], few_requests: int) -> dict[Kind, Group]:
    """The groups as chunks are made of them: shares of few requests are one, as the first of them, and take turns."""
    found: dict[Kind, Group] = {}
    small: dict[Kind, list[tuple[Kind, Group]]] = {}
    for kind, group in groups.items():
        if kind.lane.dead or len(group.bodies) >= few_requests:
            found[kind] = group
        else:
            small.setdefault(kind._replace(turn=kind.turn._replace(share=0)), []).append((kind, group))
    for few in small.values():
        kind, first = few[0]
        found[kind] = first if len(few) == 1 else mixed([group for _, group in few])
    return found


def mixed(groups: Sequence[Group]) -> Group:
    """One group of several, a request of each in turn."""
    origin = groups[0].manifest
    topic_id = uuid.UUID(bytes=origin.topic_id)
    mixture = Group(Manifest.empty(origin.cluster_id, origin.topic, topic_id), [], [])
    for index in range(max(len(group.bodies) for group in groups)):
        for group in groups:
            if index < len(group.bodies):
                mixture.manifest.copy_from(group.manifest, index)
                mixture.bodies.append(group.bodies[index])
    return mixture


def pack_group(kind: Kind, group: Group, now: float) -> NewChunk:
    """Pack a group: requests as JSONL lines with wire ids, rejected messages as they came."""
    chunk_id = new_id()
    lines = group.bodies if kind.lane.dead else wire_lines(chunk_id, kind.lane.endpoint, group.bodies)
    group.manifest.lengths = [len(line) for line in lines]
    return pack_chunk(chunk_id, 0, lines, group.manifest, stored=now, turn=kind.turn)


def wire_lines(chunk_id: uuid.UUID, endpoint: str, bodies: Iterable[bytes]) -> list[bytes]:
    """Batch API lines with our wire ids (see `penstock.core.identity.wire_id`)."""
    head = b'{"custom_id":"%b-' % chunk_id.hex.encode()
    middle = b'","method":"POST","url":"%b","body":' % endpoint.encode()
    return [b"%b%d%b%b}\n" % (head, index, middle, body) for index, body in enumerate(bodies)]
