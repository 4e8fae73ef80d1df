"""The fault rules in force, kept across restarts with their counts."""

import time
from asyncio import to_thread
from collections.abc import Mapping
from hashlib import sha256
from math import inf
from pathlib import Path

import msgspec
from starlette.requests import HTTPConnection, Request

from batchsim.records import EndEvent
from batchsim.rulebook import Call, Rulebook, read_scenario
from batchsim.rules import CountedRule, HttpFault, Outcome, Rule, WebhookFault
from batchsim.store import Store

RULES = "fault_rules"
SCENARIO = "scenario_sha256"

encode = msgspec.json.Encoder().encode


class Faults:
    """Decides what goes wrong. Counts are saved before a rule acts, so that a restart does not repeat it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        kept = msgspec.json.decode(store.setting(RULES, b"[]"), type=list[CountedRule])
        self.rulebook = Rulebook(store.seed, kept)

    async def load_scenario(self, path: Path) -> None:
        """Put the rules of a file in force, unless they are the ones that were put last from a file.

        Raises:
            OSError, ValueError: when the file cannot be read or holds no valid rules.
        """
        digest = sha256(await to_thread(path.read_bytes)).hexdigest().encode()
        if digest != self.store.setting(SCENARIO, b""):
            await self.replace(read_scenario(path))
            await self.store.save_setting(SCENARIO, digest)

    async def replace(self, rules: list[Rule]) -> None:
        """Put other rules in force."""
        self.rulebook.replace(rules)
        await self.save()

    async def save(self) -> None:
        """Keep the rules and their counts."""
        self.rulebook.has_counted = False
        await self.store.save_setting(RULES, encode(self.rulebook.rules))

    async def for_call(self, operation: str, request: Request) -> HttpFault | None:
        """What goes wrong with an HTTP call, if anything."""
        length = request.headers.get("content-length", "")
        body_bytes = int(length) if length.isdecimal() else 0
        call = Call(operation, request.url.path, request.query_params, api_key(request), body_bytes)
        fault = self.rulebook.http_fault(call)
        if self.rulebook.has_counted:
            await self.save()
        return fault

    async def for_batch(self, endpoint: str, model: str, metadata: Mapping[str, str]) -> Outcome:
        """What becomes of a new batch."""
        outcome = self.rulebook.outcome(endpoint, model, metadata)
        if self.rulebook.has_counted:
            await self.save()
        return outcome or Outcome()

    async def for_webhook(self, event: EndEvent) -> WebhookFault:
        """How the end of a batch is announced."""
        batch = self.store.batch(event.batch_id)
        assert batch is not None, "batches are never deleted"
        fault = self.rulebook.webhook_fault(event.type, batch.endpoint, batch.model or "", batch.metadata or {})
        if self.rulebook.has_counted:
            await self.save()
        return fault or WebhookFault()


def api_key(connection: HTTPConnection) -> str:
    """The key that a client sent, "" without one."""
    return connection.headers.get("authorization", "").removeprefix("Bearer ")


def list_horizon(request: Request) -> float:
    """The Unix time up to which a list shows objects: endless, or in the past when a fault makes the list stale."""
    fault: HttpFault = request.state.fault
    return time.time() - fault.hide_newer_than_seconds if fault.hide_newer_than_seconds else inf


def list_limit(request: Request, usual: int) -> int:
    """The largest `limit` that a list takes: the usual one, unless a fault lowers it."""
    fault: HttpFault = request.state.fault
    return usual if fault.limit_max is None else min(usual, fault.limit_max)


def list_after(request: Request) -> str | None:
    """Behind which object a page begins: as asked, unless a fault makes the list show its first page for ever."""
    return None if shows_first_page(request) else request.query_params.get("after")


def shows_first_page(request: Request) -> bool:
    """Whether a list neither moves on nor ends."""
    fault: HttpFault = request.state.fault
    return fault.first_page


def copies_made(request: Request) -> int:
    """How many batches a create makes."""
    fault: HttpFault = request.state.fault
    return fault.copies


def bytes_kept(request: Request, size: int) -> int:
    """How many bytes of an upload are stored: all, unless a fault loses its end."""
    fault: HttpFault = request.state.fault
    return size if fault.keep_bytes is None else min(size, fault.keep_bytes)


def bytes_off(request: Request) -> int:
    """By how much the told size of a file is wrong."""
    fault: HttpFault = request.state.fault
    return fault.bytes_off


def listed_status(request: Request) -> str | None:
    """The status that a list shows of each batch, whatever became of it; None when it tells the truth."""
    fault: HttpFault = request.state.fault
    return fault.listed_status
