"""The provider's accounts: the one of `PENSTOCK_PROVIDER_…`, and those of the lanes file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from penstock.core.account import AccountRule
from penstock.core.errors import ConfigurationError
from penstock.core.lane import Lanes
from penstock.settings import ProviderSettings, Settings, WebhookSettings

OWN = ("api_key_file", "organization", "project", "usd_per_day_max")
SHARED = ("base_url", "timeout_seconds", "creates_per_hour", "file_expires_seconds")
"""What an account has as the settings have it, where its table says nothing else."""
WEBHOOK = "webhook_secret_file"
KEYS = (*OWN, *SHARED, WEBHOOK)


@dataclass(frozen=True, slots=True)
class Account:
    """One account: what shares a key and limits at the provider."""

    provider: ProviderSettings
    webhook: WebhookSettings | None
    """Where the secret of its webhooks is; None: nobody tells of its batches, so it is polled more often."""


def read_accounts(settings: Settings, lanes: Lanes) -> dict[str, Account]:
    """Every account by name, that of the settings first.

    Raises:
        ConfigurationError: a table of the lanes file is wrong, with the place named.
    """
    hooked = settings.webhook.port is not None
    accounts = {settings.provider.account: Account(settings.provider, settings.webhook if hooked else None)}
    for rule in lanes.accounts:
        if rule.name in accounts:
            raise ConfigurationError(f"lanes file: account {rule.name!r} is the name of PENSTOCK_PROVIDER_ACCOUNT")
        accounts[rule.name] = read_account(rule, settings, hooked=hooked)
    for number, lane in enumerate(lanes.rules):
        if lane.account is not None and lane.account not in accounts:
            raise ConfigurationError(f"lanes file: lane[{number}].account takes {', '.join(accounts)}")
    return accounts


def read_account(rule: AccountRule, settings: Settings, *, hooked: bool) -> Account:
    """An account of the lanes file; its secrets come from files alone.

    Args:
        rule: its table.
        settings: what holds where the table says nothing.
        hooked: webhooks are received.

    Raises:
        ConfigurationError: it has no key, or a value is wrong.
    """
    if unknown := sorted(rule.values.keys() - set(KEYS)):
        raise ConfigurationError(f"lanes file: account {rule.name!r}: {unknown[0]} is unknown; it takes {_names()}")
    if "api_key_file" not in rule.values:
        raise ConfigurationError(f"lanes file: account {rule.name!r} needs api_key_file")
    given = {name: value for name, value in rule.values.items() if name != WEBHOOK}
    shared = {name: getattr(settings.provider, name) for name in SHARED}
    provider = _valid(ProviderSettings, rule, {**shared, **given, "account": rule.name})
    secret = rule.values.get(WEBHOOK)
    webhook = None if secret is None else _valid(WebhookSettings, rule, {"secret_file": secret})
    return Account(provider, webhook if hooked else None)


Kind = TypeVar("Kind", ProviderSettings, WebhookSettings)


def _valid(section: type[Kind], rule: AccountRule, values: Mapping[str, object]) -> Kind:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = [f"{each['loc'][0]}: {each['msg']}" for each in error.errors()]
        raise ConfigurationError(f"lanes file: account {rule.name!r}: {'; '.join(problems)}") from None


def _names() -> str:
    return ", ".join(sorted(KEYS))
