import tomllib

import pytest

from penstock.core.errors import ConfigurationError
from penstock.core.lane import ENDPOINTS, LaneKey, Lanes
from penstock.core.lanes_file import parse_lanes

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
FILE = f"""
[[account]]
name = "europe"
topics = ["requests.eu"]
models = ["m", "n"]

[[account]]
name = "acme"
tenants = ["acme"]

[[account]]
name = "vectors"
endpoints = ["{EMBEDDINGS}"]

[[account]]
name = "retired"
models = []

[[lane]]
model = "m"
enqueued_tokens_max = 100

[[lane]]
account = "europe"
enqueued_tokens_max = 7
"""


def parse(text: str) -> Lanes:
    return parse_lanes(tomllib.loads(text))


@pytest.mark.parametrize(
    ("topic", "tenant", "endpoint", "model", "account"),
    [
        ("requests.eu", "", CHAT, "m", "europe"),
        ("requests.eu", "acme", CHAT, "n", "europe"),
        ("requests.eu", "acme", CHAT, "other", "acme"),
        ("requests", "acme", EMBEDDINGS, "m", "acme"),
        ("requests", "", EMBEDDINGS, "m", "vectors"),
        ("requests", "", CHAT, "m", None),
        ("requests", "retired", CHAT, "retired", None),
    ],
)
def test_the_first_account_whose_every_condition_is_met_takes_a_request(
    topic: str, tenant: str, endpoint: str, model: str, account: str | None
) -> None:
    assert parse(FILE).account(topic, tenant, endpoint, model) == account


def test_limits_can_be_those_of_one_account_alone() -> None:
    lanes = parse(FILE)
    limits = [lanes.policy(LaneKey(account, CHAT, "m", "24h")).enqueued_tokens_max for account in ("europe", "default")]
    assert limits == [7, 100]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('name = "Big"\nmodels = []', r"account\[0\].name must be a text of up to 40"),
        ("models = []", r"account\[0\].name must be a text"),
        ('name = "../x"\nmodels = []', r"account\[0\].name must be a text"),
        ('name = "a"', r"account\[0\] must say what goes there, by topics, tenants, endpoints, models"),
        ('name = "a"\nmodels = "m"', r"account\[0\].models must be a list of texts"),
        ('name = "a"\ntenants = [1]', r"account\[0\].tenants must be a list of texts"),
        ('name = "a"\nendpoints = ["/v1/files"]', rf"account\[0\].endpoints takes {ENDPOINTS[0]}"),
        ('name = "a"\nmodels = []\n[[account]]\nname = "a"\nmodels = []', r"account\[1\].name is 'a', as that of"),
    ],
)
def test_a_mistake_is_named_with_its_place(table: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"lanes file: {words}"):
        parse(f"[[account]]\n{table}")


def test_what_is_no_table_is_named_too() -> None:
    with pytest.raises(ConfigurationError, match=r"account\[0\] must be a table"):
        parse_lanes({"account": ["a"]})
