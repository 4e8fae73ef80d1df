"""Accounts of the provider beside the first one: which requests go there, and how it is reached."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.problems import Problems, meant

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
MATCHED = ("topics", "tenants", "endpoints", "models")
"""The keys that say which requests go to an account."""


@dataclass(frozen=True, slots=True)
class AccountRule:
    """A configured account, and what a request must have to go there.

    Of each condition that is given one value must be met; an empty list is met by nothing, so that an account can
    come to its end without new requests.
    """

    name: str
    """In lanes and metrics, and in the path of its webhooks: up to 40 of a-z, 0-9 and -."""
    topics: tuple[str, ...] | None
    """Request topics."""
    tenants: tuple[str, ...] | None
    """Values of the header `tenant`."""
    endpoints: tuple[str, ...] | None
    """Endpoints."""
    models: tuple[str, ...] | None
    """Models."""
    values: Mapping[str, object]
    """How it is reached, and what it allows; read by `penstock.accounts`."""

    def takes(self, topic: str, tenant: str, endpoint: str, model: str) -> bool:
        """Whether a request goes there."""
        met = (
            (self.topics, topic),
            (self.tenants, tenant),
            (self.endpoints, endpoint),
            (self.models, model),
        )
        return all(wanted is None or value in wanted for wanted, value in met)


def parse_accounts(problems: Problems, entries: list[object], endpoints: tuple[str, ...]) -> tuple[AccountRule, ...]:
    """Read the `[[account]]` tables of the lanes file, and leave out those that are wrong.

    Args:
        problems: takes a name that is missing, wrong or given twice, and wrong conditions, with the place named.
        entries: the tables.
        endpoints: those that there are.
    """
    rules: list[AccountRule] = []
    for number, entry in enumerate(entries):
        where = f"account[{number}]"
        if not isinstance(entry, dict):
            problems.add(f"lanes file: {where} must be a table")
            continue
        values = dict(entry)
        name = values.pop("name", None)
        conditions = {key: texts(problems, f"{where}.{key}", values.pop(key)) for key in MATCHED if key in values}
        if not conditions:
            problems.add(f"lanes file: {where} must say what goes there, by {', '.join(MATCHED)}")
        for endpoint in conditions.get("endpoints", ()):
            if endpoint not in endpoints:
                takes = f"{', '.join(endpoints)}{meant(endpoint, endpoints)}"
                problems.add(f"lanes file: {where}.endpoints takes {takes}")
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            problems.add(f"lanes file: {where}.name must be a text of up to 40 of a-z, 0-9 and -")
        elif any(rule.name == name for rule in rules):
            problems.add(f"lanes file: {where}.name is {name!r}, as that of another account")
        else:
            rules.append(AccountRule(name, **{key: conditions.get(key) for key in MATCHED}, values=values))
    return tuple(rules)


def texts(problems: Problems, where: str, value: object) -> tuple[str, ...]:
    """A list of texts; an empty one, and a problem, when the value is something else."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    problems.add(f"lanes file: {where} must be a list of texts")
    return ()
