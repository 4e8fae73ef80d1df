"""The provider's accounts: the one of `PENSTOCK_PROVIDER_…`, and those of the lanes file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from penstock.core.account import MATCHED, AccountRule
from penstock.core.lane import Lanes
from penstock.core.problems import Problems, meant
from penstock.files import FileUnreadable
from penstock.settings import ProviderSettings, Settings, WebhookSettings
from penstock.variables import variable

OWN = ("auth", "api_key_file", "organization", "project", "usd_per_day_max")
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
        ConfigurationError: tables of the lanes file are wrong; every mistake is named with its place.
    """
    problems = Problems()
    accounts = collect_accounts(settings, lanes, problems)
    problems.settle()
    return accounts


def collect_accounts(settings: Settings, lanes: Lanes, problems: Problems) -> dict[str, Account]:
    """Every account whose table is right, that of the settings first; what is wrong becomes problems."""
    hooked = settings.webhook.port is not None
    accounts = {settings.provider.account: Account(settings.provider, settings.webhook if hooked else None)}
    for rule in lanes.accounts:
        if rule.name == settings.provider.account:
            problems.add(f"lanes file: account {rule.name!r} is the name of PENSTOCK_PROVIDER_ACCOUNT")
        elif account := read_account(rule, settings, problems, hooked=hooked):
            accounts[rule.name] = account
    names = [settings.provider.account, *(rule.name for rule in lanes.accounts)]
    for number, lane in enumerate(lanes.rules):
        if lane.account is not None and lane.account not in names:
            takes = f"{', '.join(names)}{meant(lane.account, names)}"
            problems.add(f"lanes file: lane[{number}].account takes {takes}, not {lane.account}")
    return accounts


def read_account(rule: AccountRule, settings: Settings, problems: Problems, *, hooked: bool) -> Account | None:
    """An account of the lanes file; its secrets come from files alone.

    Args:
        rule: its table.
        settings: what holds where the table says nothing.
        problems: takes a key that is missing or unknown, and values that are wrong.
        hooked: webhooks are received.

    Returns:
        None when it has no key or its values are wrong.
    """
    where = f"lanes file: account {rule.name!r}"
    for name in sorted(rule.values.keys() - set(KEYS)):
        problems.unknown(f"{where}: {name}", name, ("name", *MATCHED, *KEYS))
    if "api_key_file" not in rule.values and rule.values.get("auth") != "none":
        problems.add(f'{where} needs api_key_file, or auth = "none" when its provider takes no key')
        return None
    given = {name: rule.values[name] for name in (*OWN, *SHARED) if name in rule.values}
    shared = {name: getattr(settings.provider, name) for name in SHARED}
    provider = _valid(ProviderSettings, {**shared, **given, "account": rule.name}, where, problems)
    secret, webhook = rule.values.get(WEBHOOK), None
    if secret is not None:
        webhook = _valid(WebhookSettings, {"secret_file": secret}, where, problems)
    return None if provider is None else Account(provider, webhook if hooked else None)


def missing_key(account: ProviderSettings, *, first: bool) -> str | None:
    """Why an account has no API key, and what to set; None when it has one, or needs none.

    Args:
        account: its settings.
        first: it is that of the settings, not one of the lanes file.
    """
    without = f"account {account.account!r} has no API key"
    try:
        if account.auth == "none" or account.read_api_key():
            return None
    except FileUnreadable as error:
        unreadable: str | None = error.why
    else:
        unreadable = None
    key, file, auth = (variable(("provider", each)) for each in ("api_key", "api_key_file", "auth"))
    if unreadable is not None:
        return f"{without}: {file if first else 'api_key_file'}: {account.api_key_file}: {unreadable}"
    if account.api_key_file is not None:
        return f"{without}: {account.api_key_file} ({file if first else 'api_key_file'}) is empty"
    return f"{without}: set {file} or {key}, or {auth}=none if the provider takes no key" if first else None


Kind = TypeVar("Kind", ProviderSettings, WebhookSettings)


def _valid(section: type[Kind], values: Mapping[str, object], where: str, problems: Problems) -> Kind | None:
    try:
        return section.model_validate(values)
    except ValidationError as error:
        for each in error.errors():
            problems.add(f"{where}: {each['loc'][0]}: {each['msg']}")
        return None
