"""Settings, lanes and accounts together: what `penstock run` starts with, and what `penstock check` proves."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from penstock.accounts import Account, collect_accounts, missing_key
from penstock.core.lane import LaneKey, Lanes
from penstock.core.problems import Problems, meant
from penstock.settings import Settings
from penstock.variables import PREFIX

CALLERS = frozenset({"submit", "poll", "collect", "publish", "janitor"})
"""The stages that call the provider."""
LINGER = f"{PREFIX}INTAKE_LINGER_SECONDS"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the lanes file says."""

    lanes: Lanes
    accounts: dict[str, Account]
    """By name, that of the settings first."""


def read_configuration(settings: Settings, stages: frozenset[str]) -> Configuration:
    """What a replica starts with.

    Args:
        settings: all of them.
        stages: that run in it; each account needs a key if one of them calls the provider.

    Raises:
        ConfigurationError: it cannot work; every reason is named.
    """
    problems = Problems()
    configuration = collect_configuration(settings, problems)
    if stages & CALLERS:
        for name, account in configuration.accounts.items():
            if without := missing_key(account.provider, first=name == settings.provider.account):
                problems.add(without)
    problems.settle()
    return configuration


def collect_configuration(settings: Settings, problems: Problems) -> Configuration:
    """Lanes and accounts without what is wrong with them, which becomes problems."""
    lanes = settings.collect_lanes(problems)
    accounts = collect_accounts(settings, lanes, problems)
    for each in (*topics_without_consumer(settings, lanes), *deadlines_too_short(settings, lanes)):
        problems.add(f"lanes file: {each}")
    return Configuration(lanes, accounts)


def topics_without_consumer(settings: Settings, lanes: Lanes) -> Iterator[str]:
    """Request topics that the lanes file names and nobody consumes; result topics that another kind of topic is."""
    kafka = settings.kafka
    named = [(f"account {rule.name!r}: topics", topic) for rule in lanes.accounts for topic in rule.topics or ()]
    named += [("backlog_bytes_max", topic) for topic in lanes.backlogs]
    for where, topic in named:
        if topic not in kafka.request_topics:
            takes = ", ".join(kafka.request_topics)
            names = f"{where} names {topic}, which is not in {PREFIX}KAFKA_REQUEST_TOPICS ({takes})"
            yield f"{names}{meant(topic, kafka.request_topics)}"
    taken = {*kafka.request_topics, kafka.dead_letter_topic, kafka.ledger_topic}
    for topic in sorted(lanes.topics(kafka.result_topic) & taken):
        yield f"{topic} is a topic for results, and for requests, dead letters or the ledger: name another for results"


def deadlines_too_short(settings: Settings, lanes: Lanes) -> Iterator[str]:
    """Lanes whose requests meet their deadline before a window is sealed by its age."""
    linger = settings.intake.linger_seconds
    told: set[str] = set()
    for key in lanes_with_times(lanes):
        policy = lanes.policy(key)
        sealed_seconds = policy.age_max_seconds + linger
        where = source_of_times(lanes, key)
        if policy.deadline_seconds <= sealed_seconds and where not in told:
            told.add(where)
            yield (
                f"{where}: deadline_seconds is {policy.deadline_seconds:g}, and a window is sealed only after"
                f" {sealed_seconds:g} s (age_max_seconds {policy.age_max_seconds:g} and {LINGER} {linger:g}):"
                " raise deadline_seconds, or lower age_max_seconds"
            )


TIMES = frozenset({"age_max_seconds", "deadline_seconds"})


def lanes_with_times(lanes: Lanes) -> Iterator[LaneKey]:
    """A lane for each combination of the rules that set times; an empty name stands for all that no rule names."""
    rules = [rule for rule in lanes.rules if rule.values.keys() & TIMES]
    accounts = dict.fromkeys(("", *(rule.account or "" for rule in rules)))
    endpoints = dict.fromkeys(("", *(rule.endpoint or "" for rule in rules)))
    models = lanes.models if lanes.models is not None else ("", *(rule.model or "" for rule in rules))
    for account, endpoint, model in product(accounts, endpoints, dict.fromkeys(models)):
        yield LaneKey(account, endpoint, model, "")


def source_of_times(lanes: Lanes, key: LaneKey) -> str:
    """The rules of the file that a lane's times come from."""
    rules = [
        f"lane[{number}]" for number, rule in enumerate(lanes.rules) if rule.values.keys() & TIMES and rule.matches(key)
    ]
    return " and ".join(rules) or "defaults"
