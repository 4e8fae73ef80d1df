"""What a demonstration on the user's own servers will use and cost, said before anything is sent."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import urlsplit

from penstock.accounts import missing_key
from penstock.core.errors import ConfigurationError, RejectedMessage
from penstock.core.price import bill
from penstock.core.request import Request, RequestLimits, parse_request
from penstock.core.token import estimate
from penstock.demo.environment import Environment
from penstock.settings import PostgresSettings, load_settings

OUTPUT_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
GENERATING = ("/v1/chat/completions", "/v1/responses", "/v1/completions")
"""The endpoints that answer with tokens."""
OWN_KAFKA = ("KAFKA_BOOTSTRAP_SERVERS",)
OWN_POSTGRES = ("POSTGRES_DSN", "POSTGRES_DSN_FILE")
OWN_PROVIDER = ("PROVIDER_BASE_URL",)
"""What names a server of the user's own."""


@dataclass(slots=True)
class Estimate:
    """Requests and what they cost at batch prices, about."""

    requests: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced: set[str] = field(default_factory=set)
    """Models whose batch price is not known."""

    def __str__(self) -> str:
        text = f"{self.requests:,}, about ${self.cost_usd:,.2f} at batch prices"
        return f"{text}, and what {', '.join(sorted(self.unpriced))} cost" if self.unpriced else text


def estimated(lines: Iterable[bytes]) -> Estimate:
    """What the requests among these lines cost; where a body does not bound its answer, as many tokens as it has."""
    tokens: dict[str, tuple[int, int]] = {}
    found, limits = Estimate(), RequestLimits()
    for line in lines:
        try:
            request = parse_request(line, limits)
        except RejectedMessage:
            continue
        found.requests += 1
        before_in, before_out = tokens.get(request.model, (0, 0))
        tokens[request.model] = (before_in + estimate(len(request.body)), before_out + answer_tokens(request))
    for model, (input_tokens, output_tokens) in tokens.items():
        price = bill(model, input_tokens, 0, output_tokens)
        if price is None:
            found.unpriced.add(model)
        else:
            found.cost_usd += price.cost_usd
    return found


def answer_tokens(request: Request) -> int:
    """The tokens of an answer, about."""
    if request.url not in GENERATING:
        return 0
    body = json.loads(request.body)
    limits = [body[name] for name in OUTPUT_LIMITS if isinstance(body.get(name), int)]
    return min(limits, default=estimate(len(request.body)))


def preview(environment: Environment, lines: Iterable[bytes]) -> Iterator[str]:
    """A line for each server, and one for the requests.

    Raises:
        ConfigurationError: the environment is wrong, or names a provider and no key.
    """
    settings = load_settings(environment.settings)
    kafka, postgres, provider = "embedded", "embedded", "the simulator, which costs nothing"
    if environment.names(*OWN_KAFKA):
        kafka = f"{settings.kafka.bootstrap_servers} (topics demo-… are made, and deleted at the end)"
    if environment.names(*OWN_POSTGRES):
        postgres = f"{server_of(settings.postgres)} (a schema demo_… is made, and dropped at the end)"
    if environment.names(*OWN_PROVIDER):
        if without := missing_key(settings.provider, first=True):
            raise ConfigurationError(without)
        provider = f"{without_login(settings.provider.base_url)} (it may bill you)"
    yield f"Kafka     {kafka}"
    yield f"Postgres  {postgres}"
    yield f"Provider  {provider}"
    found = estimated(lines)
    yield f"Requests  {found if environment.names(*OWN_PROVIDER) else f'{found.requests:,}'}"


def server_of(settings: PostgresSettings) -> str:
    """Host, port and database of a DSN, without its login and its options."""
    parts = urlsplit(settings.read_dsn())
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def without_login(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
