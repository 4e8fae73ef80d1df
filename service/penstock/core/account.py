"""Accounts of the provider beside the first one: which requests go there, and how it is reached."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.core.errors import ConfigurationError

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


def parse_accounts(entries: list[object], endpoints: tuple[str, ...]) -> tuple[AccountRule, ...]:
    """Read the `[[account]]` tables of the lanes file.

    Args:
        entries: the tables.
        endpoints: those that there are.

    Raises:
        ConfigurationError: a name is missing, wrong or there twice, or a condition is wrong, with the place named.
    """
    rules: list[AccountRule] = []
    for number, entry in enumerate(entries):
        where = f"account[{number}]"
        if not isinstance(entry, dict):
            raise ConfigurationError(f"lanes file: {where} must be a table")
        values = dict(entry)
        name = values.pop("name", None)
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            raise ConfigurationError(f"lanes file: {where}.name must be a text of up to 40 of a-z, 0-9 and -")
        if any(rule.name == name for rule in rules):
            raise ConfigurationError(f"lanes file: {where}.name is {name!r}, as that of another account")
        conditions = {key: texts(f"{where}.{key}", values.pop(key)) for key in MATCHED if key in values}
        if not conditions:
            raise ConfigurationError(f"lanes file: {where} must say what goes there, by {', '.join(MATCHED)}")
        for endpoint in conditions.get("endpoints", ()):
            if endpoint not in endpoints:
                raise ConfigurationError(f"lanes file: {where}.endpoints takes {', '.join(endpoints)}")
        rules.append(AccountRule(name, **{key: conditions.get(key) for key in MATCHED}, values=values))
    return tuple(rules)


def texts(where: str, value: object) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        ConfigurationError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigurationError(f"lanes file: {where} must be a list of texts")
    return tuple(value)
