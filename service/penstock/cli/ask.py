"""`penstock ask`."""

import asyncio
import json
import uuid
from typing import Annotated, Any

import typer

from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, console
from penstock.cli.tail import POLL_SECONDS, show
from penstock.core.decision import status_of
from penstock.core.errors import PenstockError
from penstock.kafka.record_reader import RecordReader
from penstock.kafka.request_producer import RequestProducer, custom_id_of
from penstock.settings import Settings

OK = 200


def ask(
    prompt: Annotated[str, typer.Argument(help="What to ask.")] = "Answer with one word.",
    model: Annotated[str, typer.Option(help="The model.")] = "gpt-4o-mini",
    timeout_seconds: Annotated[float, typer.Option(min=1, help="How long to wait for the result.")] = 86400.0,
    output: OutputOption = Output.TEXT,
) -> None:
    """Send one chat request to the first request topic, and wait for its result: the whole way, once.

    The exit status is 0 when a model answered, else 1. The wait is a window's age and the provider's time;
    `penstock flush` cuts the first of them short.

    For example:

    * `penstock ask`
    * `penstock ask "A word for a mill's gate?" --model gpt-4o --timeout-seconds 3600`
    """

    async def main(settings: Settings) -> Any:
        kafka = settings.kafka
        custom_id = f"ask-{uuid.uuid4().hex}"
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        line = json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})
        topics = [*sorted(settings.read_lanes().topics(kafka.result_topic)), kafka.dead_letter_topic]
        try:
            async with asyncio.timeout(timeout_seconds), RecordReader(kafka, topics, from_beginning=False) as reader:
                async with RequestProducer(kafka, kafka.request_topics[0], keyed=True) as producer:
                    await producer.send(line.encode())
                    await producer.flush()
                typer.echo(f"sent {custom_id} to {kafka.request_topics[0]}", err=True)
                return await answer(reader, custom_id)
        except TimeoutError:
            text = f"no result in {timeout_seconds:g} s; where it is: penstock find {custom_id}"
            raise PenstockError(text) from None

    record = command(main)
    show(record, output, console())
    raise typer.Exit(0 if answered(record.value) else 1)


async def answer(reader: RecordReader, custom_id: str) -> Any:
    """The record with this id, once it is there."""
    while True:
        for record in await reader.poll(POLL_SECONDS):
            if custom_id_of(record.value) == custom_id:
                return record


def answered(value: bytes) -> bool:
    """Whether a result holds a model's answer: neither an error nor a dead letter does."""
    response = json.loads(value).get("response")
    return isinstance(response, dict) and status_of(response.get("status_code")) == OK
