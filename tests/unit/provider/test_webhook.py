import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from batchsim.webhooks import signature, signing_key
from penstock.core.batch import Hint
from penstock.core.errors import ConfigurationError, WebhookRefused
from penstock.provider.client import ProviderClient
from penstock.provider.webhook import WebhookReader
from penstock.settings import ProviderSettings, WebhookSettings

SECRET = "whsec_c2VjcmV0"
OTHER = "whsec_b3RoZXI="


def reader(settings: WebhookSettings | None = None) -> WebhookReader:
    return WebhookReader(
        settings or WebhookSettings(secret=SecretStr(SECRET)),
        ProviderClient(ProviderSettings(api_key=SecretStr("key"))),
    )


def event(batch_id: object = "batch_1", kind: str = "batch.completed") -> bytes:
    return json.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"id": batch_id}}).encode()


def signed(body: bytes, *, age: float = 0, secret: str = SECRET, webhook_id: str = "wh_1") -> dict[str, str]:
    timestamp = str(int(time.time() - age))
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(signing_key(secret), webhook_id, timestamp, body),
    }


@pytest.mark.parametrize("kind", ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"])
@pytest.mark.parametrize("age", [0, 295, -295])
def test_a_webhook_of_these_minutes_hints_at_its_batch(kind: str, age: float) -> None:
    body = event(kind=kind)
    assert reader().read(body, signed(body, age=age)) == Hint("wh_1", "batch_1")


def test_an_event_of_something_else_hints_at_nothing() -> None:
    for body in (event(kind="response.completed"), b"{}"):
        assert reader().read(body, signed(body)) is None


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"webhook-signature": "v1,Zm9yZ2Vk"}, "forged"),
        ({"webhook-signature": ""}, "forged"),
        ({"webhook-signature": "v1,\xff"}, "forged"),
        ({"webhook-signature": None}, "forged"),
        ({"webhook-id": "wh_2"}, "forged"),
        ({"webhook-id": None}, "forged"),
        ({"webhook-timestamp": None}, "forged"),
        ({"webhook-timestamp": "now"}, "forged"),
        ({"webhook-timestamp": "9" * 5000}, "forged"),
        ({"webhook-timestamp": "9" * 400}, "forged"),
        ({"webhook-timestamp": "9" * 12}, "untimely"),
        ({"webhook-timestamp": "1"}, "untimely"),
    ],
)
def test_a_webhook_that_is_not_as_it_was_signed_is_refused(changed: dict[str, Any], outcome: str) -> None:
    body = event()
    headers = {name: value for name, value in {**signed(body), **changed}.items() if value is not None}
    with pytest.raises(WebhookRefused) as raised:
        reader().read(body, headers)
    assert raised.value.outcome == outcome


@pytest.mark.parametrize("age", [302, -302])
def test_a_webhook_of_another_time_is_refused_though_it_is_well_signed(age: float) -> None:
    body = event()
    with pytest.raises(WebhookRefused) as raised:
        reader().read(body, signed(body, age=age))
    assert raised.value.outcome == "untimely"


@pytest.mark.parametrize(
    "body",
    [b"", b"nothing", b"\xff", b"[]", b"[" * 100_000, event(None), event(""), event("b" * 101), event("\0")],
)
def test_nonsense_is_refused_though_it_is_well_signed(body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        reader().read(body, signed(body))


@pytest.mark.parametrize("secret", [None, "", "whsec_"])
def test_without_a_secret_nothing_is_believed(secret: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_WEBHOOK_SECRET", OTHER)
    body, settings = event(), WebhookSettings(secret=SecretStr(secret) if secret is not None else None)
    with pytest.raises(ConfigurationError, match="PENSTOCK_WEBHOOK_SECRET"):
        reader(settings).read(body, signed(body, secret=OTHER))


def test_a_rotated_secret_is_taken_up(tmp_path: Path) -> None:
    file, body = tmp_path / "secret", event()
    file.write_text(f"{OTHER}\n")
    rotating = reader(WebhookSettings(secret_file=file))
    assert rotating.read(body, signed(body, secret=OTHER))
    file.write_text(f"{SECRET}\n")
    assert rotating.read(body, signed(body))
    with pytest.raises(WebhookRefused):
        rotating.read(body, signed(body, secret=OTHER))
