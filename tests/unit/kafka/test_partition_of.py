from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from penstock.kafka.result_producer import partition_of

CLIENT = DefaultPartitioner()


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_a_key_goes_where_kafkas_own_clients_send_it(key: bytes, count: int) -> None:
    partitions = tuple(range(count))
    assert partition_of(key, partitions, 0) == CLIENT(key, list(partitions), list(partitions))


def test_a_record_without_a_key_goes_to_the_fallback() -> None:
    assert partition_of(None, (0, 1, 2), 4) == 1
