"""Ask the leaders of partitions whether their logs are still those that positions were read from."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from penstock.core.errors import LogMoved, Superseded
from penstock.kafka.request_consumer import RequestConsumer
from penstock.kafka.topics import Cluster
from penstock.postgres.intake_store import IntakeStore, Place, Span, Stand
from penstock.stages.assignment import Assigned, Polled, recreated
from penstock.stages.divergence import Divergence, divergence, doubt, epoch_of, question


async def confirm(
    consumer: RequestConsumer,
    assigned: Mapping[TopicPartition, Assigned],
    polled: Polled,
    spans: Mapping[Place, Span],
) -> None:
    """See, before spans are stored, that they are still in the logs they were fetched from: one request to each leader.

    Raises:
        Superseded: a topic was made anew.
        LogMoved: a partition has another leader epoch or lost records; the next assignment tells which it was.
        KafkaError: no broker answers.
    """
    cluster = await consumer.describe()
    if topic := recreated(assigned, cluster, polled.ends):
        raise Superseded(f"{topic} was made anew: what was fetched may be the new one's")
    mine = {each: spans[assigned[each].place] for each in polled.ends}
    leaders = {each: cluster.leader(each.topic, each.partition) for each in mine}
    asked = {each: question(leaders[each], span.epoch, span.since) for each, span in mine.items()}
    answers = await consumer.epoch_ends({each: found for each, found in asked.items() if found})
    for each, span in mine.items():
        if text := doubt(span.start, span.epoch, span.since, leaders[each], answers.get(each)):
            raise LogMoved(f"{each.topic} {each.partition}: {text}")


async def find_diverged(
    consumer: RequestConsumer,
    store: IntakeStore,
    places: Mapping[TopicPartition, Place],
    stands: dict[Place, Stand],
    cluster: Cluster,
) -> dict[TopicPartition, Divergence]:
    """The partitions whose log lost records before its position.

    Positions without an epoch take the current one, here and in ``stands``. A leader that cannot be asked now, or that
    has another epoch by now, is asked before anything is stored (`confirm`).
    """
    known = {each: stands[place] for each, place in places.items() if place in stands}
    leaders = {each: cluster.leader(each.topic, each.partition) for each in known}
    asked = {each: question(leaders[each], epoch_of(leaders[each]), stand.epoch) for each, stand in known.items()}
    answers = await consumer.epoch_ends({each: found for each, found in asked.items() if found})
    fresh = {}
    for each, answer in answers.items():
        stand, epoch = known[each], epoch_of(leaders[each])
        if stand.epoch is None and epoch is not None and not answer.error and answer.offset >= stand.position:
            fresh[places[each]] = stand.position, epoch
            stands[places[each]] = stand._replace(epoch=epoch)
    if fresh:
        await store.take_epochs(fresh)
    found = {each: divergence(stand.position, stand.epoch, answers.get(each)) for each, stand in known.items()}
    return {each: lost for each, lost in found.items() if lost}
