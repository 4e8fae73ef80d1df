import tomllib
from pathlib import Path

import pytest

from penstock.accounts import Account, read_accounts
from penstock.core.errors import ConfigurationError
from penstock.core.lanes_file import parse_lanes
from penstock.settings import load_settings


def read(table: str, more: str = "") -> dict[str, Account]:
    lanes = parse_lanes(tomllib.loads(f'[[account]]\nname = "other"\nmodels = ["m"]\n{table}\n{more}'))
    return read_accounts(load_settings(), lanes)


def test_without_a_lanes_file_there_is_the_account_of_the_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PROVIDER_ACCOUNT", "mine")
    accounts = read_accounts(load_settings(), parse_lanes({}))
    assert list(accounts) == ["mine"]


def test_an_account_has_a_key_of_its_own_and_what_its_table_leaves_out_from_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_PROVIDER_API_KEY", "sk-first")
    monkeypatch.setenv("PENSTOCK_PROVIDER_PROJECT", "proj-first")
    monkeypatch.setenv("PENSTOCK_PROVIDER_BASE_URL", "https://first/v1")
    (tmp_path / "key").write_text("sk-other\n")
    accounts = read(f'api_key_file = "{tmp_path / "key"}"\ncreates_per_hour = 5')
    first, other = accounts.values()
    assert (first.provider.read_api_key(), other.provider.read_api_key()) == ("sk-first", "sk-other")
    assert (first.provider.project, other.provider.project) == ("proj-first", None)
    assert (first.provider.creates_per_hour, other.provider.creates_per_hour) == (2000, 5)
    assert other.provider.base_url == "https://first/v1"
    assert (first.webhook, other.webhook) == (None, None)


def test_where_webhooks_come_an_account_without_a_secret_is_polled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOK_PORT", "8081")
    monkeypatch.setenv("PENSTOCK_WEBHOOK_SECRET", "whsec_c2VjcmV0")
    (tmp_path / "secret").write_text("whsec_b3RoZXI=\n")
    key = f'api_key_file = "{tmp_path / "key"}"'
    assert read(key)["other"].webhook is None
    hook = read(f'{key}\nwebhook_secret_file = "{tmp_path / "secret"}"')["other"].webhook
    assert hook is not None
    assert hook.read_secret() == "whsec_b3RoZXI="


@pytest.mark.parametrize(
    ("table", "more", "words"),
    [
        ("", "", "account 'other' needs api_key_file"),
        ('api_key = "sk-secret-in-a-file"', "", "account 'other': api_key is unknown; .*did you mean api_key_file"),
        ('api_key_file = "k"\ncreates_per_hour = 0', "", "account 'other': creates_per_hour: "),
        ('api_key_file = "k"\ntimeout_seconds = "soon"', "", "account 'other': timeout_seconds: "),
        ('api_key_file = "k"', '[[lane]]\naccount = "othr"', r"lane\[0\].account takes default, other"),
    ],
)
def test_a_mistake_is_named_and_no_value_told(table: str, more: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"lanes file: {words}") as raised:
        read(table, more)
    assert "sk-secret" not in str(raised.value)


def test_no_account_has_the_name_of_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_PROVIDER_ACCOUNT", "other")
    with pytest.raises(ConfigurationError, match="PENSTOCK_PROVIDER_ACCOUNT"):
        read('api_key_file = "k"')
