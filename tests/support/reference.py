"""The reference pages, from the code: ``python -m tests.support.reference`` writes them, a unit test compares them."""

import ast
import inspect
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from penstock.accounts import KEYS, SHARED, WEBHOOK
from penstock.core.account import MATCHED, AccountRule
from penstock.core.lane import ENDPOINTS, LanePolicy, Lanes
from penstock.core.lanes_file import CEILINGS
from penstock.core.reasons import REASONS
from penstock.core.request import CUSTOM_ID_BYTES_MAX, DEPTH_MAX, MODEL_LENGTH_MAX
from penstock.core.result import HEADERS_BYTES_MAX, KEY_BYTES_MAX
from penstock.core.wishes import HEADERS_MAX
from penstock.postgres.dsn import PARAMETERS
from penstock.settings import IntakeSettings, PostgresSettings, ProviderSettings, Settings
from penstock.telemetry import metrics
from penstock.telemetry.bulk_histogram import BulkHistogram
from penstock.variables import variable
from tests.support.bad_messages import BAD, LATER

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
COMMAND = "make docs"
NOTE = f"<!-- Written from the code by `{COMMAND}`. -->"
BOUNDS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "pattern": "matching `{}`"}
WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    Path: "path",
    SecretStr: "secret",
}
OWN_DEFAULTS = {"api_key_file": 'required, but with `auth = "none"`', "auth": "`key`"}
EXAMPLE = """\
models = ["gpt-4o-mini", "text-embedding-3-small"]  # leave it out to allow any
result_topics = ["results.urgent"]                  # what the header penstock-result-topic may name

[defaults]
age_max_seconds = 300

[[lane]]
endpoint = "/v1/embeddings"
name = "embeddings"
age_max_seconds = 900

[[lane]]
model = "gpt-4o-mini"
name = "mini"
enqueued_tokens_max = 2_000_000
attempts_max = 3

[[account]]
name = "europe"
topics = ["requests.eu"]
base_url = "https://eu.api.openai.com/v1"
api_key_file = "/run/secrets/openai-eu"

[[lane]]
account = "europe"
model = "gpt-4o-mini"
enqueued_tokens_max = 200_000
"""


class Entry(NamedTuple):
    """A metric as Prometheus shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


def entry(metric: MetricWrapperBase | BulkHistogram) -> Entry:
    """Read a metric of the catalogue."""
    if isinstance(metric, BulkHistogram):
        return Entry(metric.name, "histogram", (metric.label,), metric.documentation)
    (family,) = metric.describe()
    suffix = "_total" if family.type == "counter" else ""
    return Entry(family.name + suffix, family.type, tuple(metric._labelnames), family.documentation)  # noqa: SLF001 - the library has no public way


def catalogue() -> dict[str, Entry]:
    """Every metric, by its name in the code."""
    found = vars(metrics).items()
    return {name: entry(metric) for name, metric in found if isinstance(metric, MetricWrapperBase | BulkHistogram)}


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table."""
    heads = list(heads)
    return [row(*heads), row(*["---"] * len(heads)), *(row(*each) for each in rows)]


def type_words(annotation: Any) -> str:
    """A type, as somebody who sets a variable would say it."""
    if get_origin(annotation) is UnionType:
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{each}`" for each in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "texts, comma separated"
    return WORDS[annotation]


def range_words(field: FieldInfo) -> str:
    """What a field's value is bound by."""
    found = [
        words.format(f"{bound:,}" if isinstance(bound, int | float) else bound)
        for each in field.metadata
        for name, words in BOUNDS.items()
        if (bound := getattr(each, name, None)) is not None
    ]
    return " ".join(found)


def default_words(value: object) -> str:
    """A default; the same on every machine."""
    if value is None or value == "":
        return ""
    if isinstance(value, SecretStr):
        raise TypeError("a secret has no default")
    if isinstance(value, Path):
        return f"`{value}`".replace(tempfile.gettempdir(), "<temporary folder>")
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def setting_rows(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """A line for each variable of a section; sections inside it are left out."""
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            continue
        kind = " ".join(filter(None, (type_words(field.annotation), range_words(field))))
        yield f"`{variable((*path, name))}`", kind, default_words(field.default), field.description or ""


def settings_page() -> str:
    """Every variable, by section."""
    heads = ("variable", "takes", "default", "meaning")
    lines = [
        "# Settings",
        "",
        NOTE,
        "",
        "Read from the environment at the start. Every command refuses a value that is wrong and a `PENSTOCK_…`",
        "variable that is no setting, and names all of them. What Kubernetes sets for Services called `penstock`",
        "or `penstock-NAME` is left alone. Secrets can come from files (`..._FILE`), read again at each connect.",
        "`penstock check` proves all settings without starting.",
        "",
        "## General",
        "",
        *table(heads, setting_rows(Settings, ())),
    ]
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            section = type(field.default)
            lines += ["", f"## {name.capitalize()}", "", inspect.cleandoc(section.__doc__ or ""), ""]
            lines += table(heads, setting_rows(section, (name,)))
            if section is PostgresSettings:
                lines += ["", *dsn_lines()]
    return "\n".join(lines) + "\n"


def dsn_lines() -> list[str]:
    """What becomes of the DSN's parameters."""
    rows = []
    for name, rule in PARAMETERS.items():
        safe = "every value" if rule.safe is None else ", ".join(f"`{each}`" for each in sorted(rule.safe) if each)
        rows.append((f"`{name}`", safe or "none", rule.why + "."))
    return [
        "The DSN takes libpq's parameters. `connect_timeout` is the time for one host, 15 s without it.",
        "`load_balance_hosts=random` tries the hosts in random order. `target_session_attrs` is `read-write` if it is",
        "not given. `sslrootcert=system` trusts the authorities of the system and implies `sslmode=verify-full`.",
        "`sslmode`, `sslcert`, `sslkey` and the others of TLS, `passfile`, `options` and `service` mean what they",
        "mean to libpq. A parameter that libpq does not have goes to the server as a setting. Penstock ignores the",
        "following parameters. Where leaving one out would change something, every other value is refused.",
        "",
        *table(("parameter", "values that are ignored", "why"), rows),
    ]


def metrics_page() -> str:
    """Every metric, in the groups of the catalogue."""
    groups: dict[str, list[Entry]] = {}
    found, title = catalogue(), ""
    for line in inspect.getsource(metrics).splitlines():
        if line.startswith("# "):
            title = line.removeprefix("# ")
        elif (name := line.partition(" = ")[0]) in found:
            groups.setdefault(title, []).append(found[name])
    about = inspect.cleandoc(metrics.__doc__ or "").partition("\n\n")[2]
    lines = ["# Metrics", "", NOTE, "", about]
    for title, entries in groups.items():
        rows = ((f"`{e.name}`", e.kind, ", ".join(f"`{label}`" for label in e.labels), e.help) for e in entries)
        lines += ["", f"## {title}", "", *table(("metric", "type", "labels", "meaning"), rows)]
    return "\n".join(lines) + "\n"


def docstrings(owner: type) -> dict[str, str]:
    """The text below each field of a class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as words)),
            ):
                found[name] = inspect.cleandoc(words)
    return found


def lanes_page() -> str:
    """The keys of the lanes file."""
    about, policy = docstrings(Lanes), docstrings(LanePolicy)
    rows = []
    for name, field in LanePolicy.__dataclass_fields__.items():
        kind = "text" if isinstance(field.default, str) else "number"
        if not name.endswith("_seconds") and kind == "number":
            kind = "whole number"
        limit = f" to {CEILINGS[name]:,}" if name in CEILINGS else ""
        rows.append((f"`{name}`", kind + limit, default_words(field.default), policy[name]))
    lines = [
        "# The lanes file",
        "",
        NOTE,
        "",
        f"`{variable(('lanes_file',))}` names a TOML file; without one the defaults below hold.",
        "A lane is an account, an endpoint and a model: what may share a batch. Keys of `[defaults]` hold for all",
        "lanes; each `[[lane]]` sets them for the lanes that match its `account`, `endpoint` and `model` (any may be",
        "left out), and later ones win.",
        "",
        "```toml",
        EXAMPLE.rstrip(),
        "```",
        "",
        "## At the top",
        "",
        *table(
            ("key", "takes", "default", "meaning"),
            (
                ("`models`", "list of texts", "", about["models"]),
                ("`lanes_max`", "whole number from 1", default_words(Lanes().lanes_max), about["lanes_max"]),
                ("`result_topics`", "list of texts", "", about["result_topics"]),
            ),
        ),
        "",
        "## In `[defaults]` and `[[lane]]`",
        "",
        "Numbers are above 0. `endpoint` of a `[[lane]]` is one of "
        + ", ".join(f"`{each}`" for each in ENDPOINTS)
        + ".",
        "",
        *table(("key", "takes", "default", "meaning"), rows),
        "",
        "## In `[[account]]`",
        "",
        "An account of the provider beside that of `PENSTOCK_PROVIDER_…`, which has what goes to no other. One of",
        "`topics`, `tenants`, `endpoints` and `models` at least must be given; a request goes to the first account of",
        "which it meets every condition. See [operations](../operations.md#several-accounts).",
        "",
        *table(("key", "takes", "default", "meaning"), account_rows()),
    ]
    return "\n".join(lines) + "\n"


def account_rows() -> Iterator[tuple[str, ...]]:
    """The keys of an account."""
    about = docstrings(AccountRule)
    yield "`name`", "text", "required", about["name"]
    for name in MATCHED:
        yield f"`{name}`", "list of texts", "any", f"{about[name]} An empty list takes nothing."
    for name in KEYS:
        if name == WEBHOOK:
            yield f"`{name}`", "path", "", "File that holds the secret of its webhooks, which come to `/webhooks/NAME`."
            continue
        field = ProviderSettings.model_fields[name]
        default = f"`{variable(('provider', name))}`" if name in SHARED else OWN_DEFAULTS.get(name, "")
        kind = " ".join(filter(None, (type_words(field.annotation), range_words(field))))
        yield f"`{name}`", kind, default, field.description or ""


LIMITS: dict[str, dict[str, object]] = {
    "nested_too_deep": {"limit": DEPTH_MAX},
    "invalid_custom_id": {"limit": CUSTOM_ID_BYTES_MAX},
    "missing_model": {"limit": MODEL_LENGTH_MAX},
    "body_too_large": {"limit": IntakeSettings().body_bytes_max},
    "too_many_inputs": {"limit": LanePolicy().inputs_max},
    "headers_too_large": {"count": HEADERS_MAX, "limit": HEADERS_BYTES_MAX},
    "key_too_large": {"limit": KEY_BYTES_MAX},
    "result_too_large": {"size": "N", "topic": "TOPIC"},
}
"""Figures of the sentences, as they are by default."""


def dead_letters_page() -> str:
    """Every reason, with the messages that its tests send."""
    messages: dict[str, list[str]] = {code: [] for code in REASONS}
    for name, code in [(name, bad.code) for name, bad in BAD.items()] + list(LATER.items()):
        messages[code].append(name)
    rows = (
        (f"`{code}`", "; ".join(messages[code]), sentence.format(**LIMITS.get(code, {})))
        for code, sentence in REASONS.items()
    )
    lines = [
        "# Dead letters",
        "",
        NOTE,
        "",
        "The codes are stable: the header `penstock.error.code` and the label `reason` of",
        "`penstock_messages_rejected_total`. The header `penstock.error.reason` is the sentence, with the limits in",
        "force (here the defaults); it never holds anything of the message. Each message named here is sent through",
        "the real bridge by `tests/integration/test_messages.py`; it comes back once, with its bytes, key and headers.",
        "",
        *table(("code", "for example", "reason"), rows),
    ]
    return "\n".join(lines) + "\n"


PAGES = {
    "dead-letters.md": dead_letters_page,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "lanes.md": lanes_page,
}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
