"""Settings that are valid one by one and do not fit together, or do not fit the servers; each with its mend."""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from penstock.cli.finding import Finding, Level
from penstock.core.lane import EMBEDDINGS, LaneKey, LanePolicy, Lanes
from penstock.core.price import bill
from penstock.core.problems import meant
from penstock.settings import ProviderSettings, Settings
from penstock.stages.lease import STALL_FACTOR
from penstock.variables import PREFIX

EMBEDDING_BYTES = 66_000
"""Of one embedding in an output file, about: 50,000 are 3.3 GB."""
TRANSACTION_SETTING = "transaction.max.timeout.ms"
HOUR = 3600.0
DAY_ONLY = ("api.openai.com", "openai.azure.com")
"""Hosts, and all below them, that take no completion window but a day's."""
DAY_WINDOW = "24h"


def own_misfits(settings: Settings, lanes: Lanes, accounts: Sequence[ProviderSettings] = ()) -> Iterator[Finding]:
    """Settings, lanes and accounts among themselves.

    Args:
        settings: all of them.
        lanes: what the lanes file says.
        accounts: every account; without them that of the settings.
    """
    for account in accounts or [settings.provider]:
        yield from account_misfits(settings, lanes, account)
        yield from window_misfits(lanes, account)
    policies = [lanes.defaults, *named_policies(lanes)]
    upload = max(policy.bytes_max for policy in policies)
    if settings.spool.upload_bytes_max < upload:
        yield spool("upload", settings.spool.upload_bytes_max, "a batch's file", upload)
    output = max(policy.inputs_max for policy in policies) * EMBEDDING_BYTES
    if takes_embeddings(lanes) and settings.spool.download_bytes_max < output:
        yield spool("download", settings.spool.download_bytes_max, "an output of embeddings", output)
    yield from models_not_allowed(lanes)
    for rule in lanes.rules:
        limited = rule.values.get("usd_per_day_max") or lanes.defaults.usd_per_day_max
        if limited is not None and rule.model is not None and bill(rule.model, 1000, 0, 1000) is None:
            yield Finding(
                "lanes",
                Level.PROBLEM,
                f"model {rule.model!r} has a limit of US dollars a day and no known price: it would not be held",
                "leave usd_per_day_max out for it",
            )


def models_not_allowed(lanes: Lanes) -> Iterator[Finding]:
    """Models that the lanes file speaks of and that no request may name."""
    if lanes.models is None:
        return
    named = [(f"lane[{number}].model", rule.model) for number, rule in enumerate(lanes.rules) if rule.model is not None]
    named += [(f"account {rule.name!r}: models", model) for rule in lanes.accounts for model in rule.models or ()]
    for where, model in named:
        if model not in lanes.models:
            text = (
                f"{where} names {model!r}, which is not in models: no request may name it{meant(model, lanes.models)}"
            )
            yield Finding("lanes", Level.WARNING, text, "correct the name, add it to models, or remove it")


def account_misfits(settings: Settings, lanes: Lanes, account: ProviderSettings) -> Iterator[Finding]:
    """An account's settings against the leases, and against the ages of its lanes."""
    lease, call = settings.lease.seconds, account.timeout_seconds
    if call >= lease * STALL_FACTOR:
        yield Finding(
            "lease",
            Level.PROBLEM,
            f"a call to account {account.account} may take {call:g} s, a lease ends after {lease * STALL_FACTOR:g} s"
            " without progress",
            f"raise {PREFIX}LEASE_SECONDS above {call / STALL_FACTOR:.0f}, or lower the account's timeout_seconds"
            f" ({PREFIX}PROVIDER_TIMEOUT_SECONDS)",
        )
    first = account.account == settings.provider.account
    policies = named_policies(lanes, account.account, others=first)
    if first and not policies:
        policies = [lanes.defaults]
    creates = sum(HOUR / policy.age_max_seconds for policy in policies)
    if creates > account.creates_per_hour:
        yield Finding(
            "lanes",
            Level.PROBLEM,
            f"by their age the configured lanes may seal {creates:,.0f} windows an hour,"
            f" account {account.account} creates {account.creates_per_hour:,} batches",
            "raise age_max_seconds; until then windows wait longer than their age",
        )


def window_misfits(lanes: Lanes, account: ProviderSettings) -> Iterator[Finding]:
    """Completion windows of an account's lanes that its provider does not take, or may not."""
    host = urlsplit(account.base_url).hostname or ""
    refused = any(host == each or host.endswith(f".{each}") for each in DAY_ONLY)
    for window in sorted(windows_of(lanes, account.account) - {DAY_WINDOW}):
        name = f"completion_window {window!r} of account {account.account!r}"
        if refused:
            text, mend = f"{host} takes {DAY_WINDOW} alone, not the {name}", f"set completion_window to {DAY_WINDOW}"
            yield Finding("lanes", Level.PROBLEM, text, mend)
        else:
            text = f"whether {host} takes the {name} is not known: it refuses each batch if not"
            yield Finding("lanes", Level.WARNING, text, f"see the provider's documents; all take {DAY_WINDOW}")


def windows_of(lanes: Lanes, account: str) -> set[str]:
    """The completion windows that an account may be asked for."""
    rule = next((each for each in lanes.accounts if each.name == account), None)
    found = {lanes.defaults.completion_window}
    for lane in lanes.rules:
        conditions = ((lane.endpoint, rule and rule.endpoints), (lane.model, rule and rule.models))
        met = all(None in (own, taken) or own in (taken or ()) for own, taken in conditions)
        if lane.account in (None, account) and met and "completion_window" in lane.values:
            found.add(str(lane.values["completion_window"]))
    return found


def spool(direction: str, budget: int, what: str, size_bytes: int) -> Finding:
    """A budget that one file alone is over."""
    return Finding(
        "spool",
        Level.PROBLEM,
        f"{what} may have {size_bytes / 1e9:.1f} GB, {direction}s may take {budget / 1e9:.1f} GB",
        f"raise {PREFIX}SPOOL_{direction.upper()}_BYTES_MAX, or lower the lanes' limits",
    )


def named_policies(lanes: Lanes, account: str | None = None, *, others: bool = True) -> list[LanePolicy]:
    """The policies of the lanes that the file names by account, endpoint or model.

    Args:
        lanes: what the file says.
        account: leave out the lanes of other accounts; None leaves out none.
        others: with the lanes that name no account.
    """
    return [
        lanes.policy(LaneKey(rule.account or "", rule.endpoint or "", rule.model or "", ""))
        for rule in lanes.rules
        if (others if rule.account is None else account in (None, rule.account))
    ]


def takes_embeddings(lanes: Lanes) -> bool:
    """Whether requests for embeddings are to be expected: any may come, unless the models are listed."""
    return lanes.models is None or any(rule.endpoint == EMBEDDINGS for rule in lanes.rules)


def broker_misfits(settings: Settings, configs: Mapping[str, str]) -> Iterator[Finding]:
    """A broker's settings in force against ours."""
    longest = int(configs.get(TRANSACTION_SETTING) or 0) / 1000
    if 0 < longest < settings.publisher.transaction_timeout_seconds:
        yield Finding(
            "kafka",
            Level.PROBLEM,
            f"the brokers' {TRANSACTION_SETTING} is {longest:g} s, transactions may take"
            f" {settings.publisher.transaction_timeout_seconds:g} s: no publisher could start",
            f"lower {PREFIX}PUBLISHER_TRANSACTION_TIMEOUT_SECONDS to {longest:g}, or raise the brokers'",
        )


def server_misfits(settings: Settings, connections: int, processes: int) -> Iterator[Finding]:
    """The database's connections against ours.

    Args:
        settings: with the connections of one process.
        connections: that the server gives to ordinary roles.
        processes: that are to run.
    """
    needed = settings.postgres.connections_max * processes
    if needed > connections:
        yield Finding(
            "postgres",
            Level.PROBLEM,
            f"{processes} processes of {settings.postgres.connections_max} connections need {needed},"
            f" the server gives {connections}",
            f"raise its max_connections, lower {PREFIX}POSTGRES_CONNECTIONS_MAX, or put a PgBouncer between",
        )
