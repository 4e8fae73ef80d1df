from penstock.demo.storm import BATCHES, CALLS, Storm


def test_a_storm_deals_every_kind_of_fault_out_and_a_seed_repeats_it() -> None:
    storm = Storm.of("1")
    assert sorted(storm.names) == sorted([*BATCHES, *CALLS])
    assert storm == Storm.of("1")
    assert storm.rules != Storm.of("2").rules


def test_no_batch_meets_two_faults_and_calls_are_answered_between_them() -> None:
    rules = Storm.of("any").rules
    batches = [rule["nth"] for rule in rules if "batch" in rule]
    assert batches == list(range(1, len(BATCHES) + 1))
    creates = [rule["nth"] for rule in rules if rule.get("operation") == "batches.create"]
    assert len(creates) == len(set(creates)) == sum(call == "batches.create" for call, _, _ in CALLS.values())
