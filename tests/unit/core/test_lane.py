import tomllib
from typing import Any

import pytest

from penstock.core.errors import ConfigurationError
from penstock.core.lane import DEAD_LETTERS, ENDPOINTS, LaneKey, LanePolicy, Lanes, window_seconds
from penstock.core.lanes_file import parse_lanes

KEY = LaneKey("account", "/v1/responses", "gpt-4o", "")


def parse(text: str) -> Lanes:
    return parse_lanes(tomllib.loads(text))


def test_an_empty_file_is_the_defaults() -> None:
    assert parse("") == Lanes()
    assert Lanes().policy(KEY) == LanePolicy()


def test_later_rules_win_over_earlier_ones_and_all_over_the_defaults() -> None:
    lanes = parse("""
        [defaults]
        age_max_seconds = 60
        attempts_max = 2
        [[lane]]
        model = "gpt-4o"
        name = "first"
        age_max_seconds = 10
        [[lane]]
        endpoint = "/v1/responses"
        name = "second"
    """)
    policy = lanes.policy(KEY)
    assert (policy.name, policy.age_max_seconds, policy.attempts_max) == ("second", 10, 2)
    other = lanes.policy(KEY._replace(endpoint="/v1/embeddings", model="x"))
    assert (other.name, other.age_max_seconds, other.attempts_max) == ("", 60, 2)


def test_the_topics_for_results_are_those_named_anywhere() -> None:
    lanes = parse("""
        result_topics = ["by-header"]
        [defaults]
        result_topic = "by-default"
        [[lane]]
        result_topic = "by-lane"
    """)
    assert lanes.topics("deployment") == {"deployment", "by-default", "by-lane", "by-header"}


def test_equal_files_are_equal_as_texts_in_every_process() -> None:
    """Replicas compare what they read by a hash of its text; the order in a set differs from process to process."""
    file = {"models": ["a", "b"], "account": [{"name": "x", "models": ["b", "c"]}], "result_topics": ["r", "s"]}
    assert "set(" not in repr(parse_lanes(file))


def test_models_and_the_count_of_lanes_are_read() -> None:
    lanes = parse('models = ["a", "b"]\nlanes_max = 3')
    assert lanes.models == ("a", "b")
    assert lanes.lanes_max == 3


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"lanes": []}, "lanes is unknown; .*did you mean lane"),
        ({"lane": {}}, "lane must be a list"),
        ({"lane": ["x"]}, r"lane\[0\] must be a table"),
        ({"lane": [{}, {"endpoint": "/v1/files"}]}, r"lane\[1\].endpoint"),
        ({"lane": [{"endpoint": 1}]}, r"lane\[0\].endpoint"),
        ({"lane": [{"model": 4}]}, r"lane\[0\].model"),
        ({"lane": [{"speed": 1}]}, r"lane\[0\].speed is unknown; it takes account, age_max_seconds"),
        (
            {"lane": [{"modle": "m"}]},
            r"lane\[0\].modle is unknown; .* inputs_max, model, name, .*; did you mean model\?",
        ),
        ({"lane": [{"endpoint": "/v1/embedings"}]}, r"lane\[0\].endpoint must be .*did you mean /v1/embeddings\?"),
        ({"lane": [{"requests_max": 50_001}]}, r"lane\[0\].requests_max must be at most 50000"),
        ({"defaults": {"bytes_max": 200_000_001}}, "defaults.bytes_max must be at most 200000000"),
        ({"defaults": {"inputs_max": 50_001}}, "defaults.inputs_max must be at most 50000"),
        ({"defaults": {"attempts_max": 101}}, "defaults.attempts_max must be at most 100"),
        ({"defaults": {"requests_max": 0}}, "defaults.requests_max must be above 0"),
        ({"defaults": {"requests_max": 1.5}}, "defaults.requests_max must be a whole number"),
        ({"defaults": {"attempts_max": True}}, "defaults.attempts_max must be a number"),
        ({"defaults": {"attempts_max": "3"}}, "defaults.attempts_max must be a number"),
        ({"defaults": {"age_max_seconds": -1}}, "defaults.age_max_seconds must be above 0"),
        ({"defaults": {"deadline_seconds": float("nan")}}, "defaults.deadline_seconds must be above 0"),
        ({"defaults": {"deadline_seconds": float("inf")}}, "defaults.deadline_seconds must be above 0"),
        ({"defaults": {"name": 3}}, "defaults.name must be a text"),
        ({"defaults": {"result_topic": False}}, "defaults.result_topic must be a text"),
        ({"defaults": []}, "defaults must be a table"),
        ({"models": "a"}, "models must be a list"),
        ({"result_topics": "a"}, "result_topics must be a list"),
        ({"lanes_max": 0}, "lanes_max"),
        ({"lanes_max": "9"}, "lanes_max"),
        ({"lanes_max": True}, "lanes_max"),
    ],
)
def test_a_mistake_is_named_with_its_place(document: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigurationError, match=f"lanes file: .*{place}"):
        parse_lanes(document)


def test_all_mistakes_are_told_at_once() -> None:
    document = {
        "lanes_max": 0,
        "models": "m",
        "defaults": {"attempts_max": 101},
        "lane": [{"modle": "m", "requests_max": 0}],
        "account": [{"name": "a", "endpoints": ["/v1/files"]}, {"name": "B"}],
    }
    with pytest.raises(ConfigurationError) as raised:
        parse_lanes(document)
    assert len(raised.value.problems) == 8


def test_the_lane_without_a_provider_is_no_endpoint_of_the_api() -> None:
    assert DEAD_LETTERS.dead
    assert DEAD_LETTERS.endpoint not in ENDPOINTS
    assert not KEY.dead
    assert str(KEY._replace(completion_window="24h")) == "account/v1/responses:gpt-4o@24h"


@pytest.mark.parametrize(
    ("window", "seconds"),
    [("24h", 86400), ("7d", 604800), ("90m", 5400), ("1 day", 86400), ("2W", 1209600), ("soon", 86400), ("0h", 86400)],
)
def test_a_completion_window_is_a_time(window: str, seconds: float) -> None:
    assert window_seconds(window) == seconds
