"""An operator's levers: `penstock pause`, `resume`, `flush`, `cancel`. Each can be pulled again without harm."""

from collections.abc import Sequence
from typing import Annotated

import typer

from penstock.accounts import read_accounts
from penstock.cli.outcome import command
from penstock.cli.printing import Output, OutputOption, print_json
from penstock.cli.restore import restored
from penstock.cli.resume import resume_partition
from penstock.core.batch import Cancel
from penstock.core.errors import ConfigurationError
from penstock.core.lane import LaneKey
from penstock.postgres.database import opened
from penstock.postgres.migrate import require_schema
from penstock.postgres.operator_store import NO_MORE, Cancellable, OperatorStore, Pausable
from penstock.settings import Settings

pause = typer.Typer(
    name="pause",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Hold a lane, an account or a topic until it is resumed; what is at the provider comes to its end.",
)
resume = typer.Typer(
    name="resume",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Let go on what is paused, or has halted for safety.",
)

LaneArgument = Annotated[str, typer.Argument(help="A model, an endpoint, or a lane's whole name.")]
LanesArgument = Annotated[
    str | None, typer.Argument(help="A model, an endpoint, or a lane's whole name; all lanes by default.")
]
ReasonOption = Annotated[str, typer.Option(help="Why; shown by `penstock status` and in the audit log.")]


@pause.command("lane")
def pause_lane(lane: LaneArgument, reason: ReasonOption = "", output: OutputOption = Output.TEXT) -> None:
    """Seal and send nothing more of a lane. Its requests are still taken in, and wait; deadlines go on.

    For example:

    * `penstock pause lane gpt-4o-mini --reason "runaway producer"`
    """
    hold(Pausable.LANE, lane, reason, output)


@pause.command("account")
def pause_account(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    reason: ReasonOption = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Seal and send nothing more by an account. What it has at the provider is still collected and published.

    For example:

    * `penstock pause account default --reason "invoice in dispute"`
    """
    hold(Pausable.ACCOUNT, account, reason, output)


@pause.command("topic")
def pause_topic(
    topic: Annotated[str, typer.Argument(help="A request topic.")],
    reason: ReasonOption = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Take nothing more from a request topic; Kafka keeps it. What was taken goes on.

    For example:

    * `penstock pause topic penstock.requests --reason "bad deploy upstream"`
    """
    hold(Pausable.TOPIC, topic, reason, output)


def hold(kind: Pausable, name: str, reason: str, output: Output) -> None:
    """Pause and say what that holds."""

    async def main(settings: Settings) -> tuple[bool, list[LaneKey]]:
        if kind is Pausable.TOPIC and name not in settings.kafka.request_topics:
            raise ConfigurationError(f"{name} is none of PENSTOCK_KAFKA_REQUEST_TOPICS")
        if kind is Pausable.ACCOUNT and name not in (known := read_accounts(settings, settings.read_lanes())):
            raise ConfigurationError(f"no account is called {name!r}; there are: {', '.join(known)}")
        async with opened(settings) as database:
            await require_schema(database)
            return await OperatorStore(database).pause(kind, name, reason)

    new, lanes = command(main)
    if output is Output.JSON:
        print_json({"kind": kind, "name": name, "new": new, "lanes": [str(each) for each in lanes]})
        return
    typer.echo(f"{kind} {name} {'is' if new else 'was'} paused; penstock resume {kind} {name} lets it go on")
    for each in lanes:
        typer.echo(f"  holds {each}")
    if kind is not Pausable.TOPIC and not lanes:
        typer.echo("  there is no such open lane yet: it holds what opens under this name")


@resume.command("lane")
def resume_lane(lane: LanesArgument = None, output: OutputOption = Output.TEXT) -> None:
    """Let lanes go on that were paused, or that halted because the provider refused what Penstock had written.

    Nothing of a halted lane is lost or executed; its batches are tried again.

    For example:

    * `penstock resume lane gpt-4o-mini`
    """
    release(Pausable.LANE, lane, output)


@resume.command("account")
def resume_account(
    account: Annotated[str | None, typer.Argument(help="The account's name; all by default.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let accounts go on that were paused. An account that the provider refuses is tried at once.

    Such an account also goes on by itself: Penstock tries one call at growing intervals.

    For example:

    * `penstock resume account default`
    """
    release(Pausable.ACCOUNT, account, output)


@resume.command("topic")
def resume_topic(
    topic: Annotated[str | None, typer.Argument(help="The topic; all by default.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Take again from request topics that were paused. A halted partition takes `penstock resume partition`.

    For example:

    * `penstock resume topic penstock.requests`
    """
    release(Pausable.TOPIC, topic, output)


resume.command("partition")(resume_partition)
resume.command("restored")(restored)


def release(kind: Pausable, name: str | None, output: Output) -> None:
    """Resume and say what goes on."""

    async def main(settings: Settings) -> list[str]:
        async with opened(settings) as database:
            await require_schema(database)
            return await OperatorStore(database).resume(kind, name)

    names = command(main)
    if output is Output.JSON:
        print_json({"kind": kind, "resumed": names})
    for each in names if output is Output.TEXT else []:
        typer.echo(f"{kind} {each} goes on")
    if not names:
        typer.echo(f"penstock: no {kind} {f'{name} ' if name else ''}is paused or halted", err=True)


def flush(lane: LanesArgument = None, output: OutputOption = Output.TEXT) -> None:
    """Seal what waits now, instead of when its window is full or old enough.

    Some replica seals within seconds. Each batch counts against the account's creates per hour. The exit status is 1
    when there is no such lane.

    For example:

    * `penstock flush`
    * `penstock flush gpt-4o-mini`
    * `penstock flush /v1/embeddings`
    """

    async def main(settings: Settings) -> list[LaneKey]:
        async with opened(settings) as database:
            await require_schema(database)
            return await OperatorStore(database).flush(lane)

    lanes = command(main)
    if output is Output.JSON:
        print_json([each._asdict() for each in lanes])
    for each in lanes if output is Output.TEXT else []:
        typer.echo(f"flushing {each}")
    if not lanes:
        typer.echo(f"penstock: no open lane is called {lane}" if lane else "penstock: no lane is open", err=True)
        raise typer.Exit(1)


def cancel(
    batch: Annotated[str, typer.Argument(help="The batch: the beginning of its id, or the provider's id.")],
    again: Annotated[
        bool, typer.Option("--again", help="Send the requests without a result again, in other batches.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Cancel a batch, whatever its state. Results that the provider already has are kept and published.

    The other requests are answered with the error `batch_cancelled`, or sent again with `--again`. Replicas take it
    up within a minute. A batch that has ended is decided by what can be had of its files at the next try: results in
    a file that cannot be downloaded then are lost. The exit status is 1 when there is no such batch, or nothing left
    of it to cancel.

    For example:

    * `penstock cancel 4c1da5a5`
    * `penstock cancel batch_cf80adb83d1f7c211d7c6fd3 --again --yes`
    """
    wanted = Cancel.AGAIN if again else Cancel.ANSWER
    if not yes:
        rest = "sent again" if again else "answered with the error batch_cancelled"
        typer.confirm(f"Requests of {batch} without a result will be {rest}. Go on?", abort=True)

    async def main(settings: Settings) -> list[Cancellable]:
        async with opened(settings) as database:
            await require_schema(database)
            return await OperatorStore(database).cancel(batch, wanted)

    found = command(main)
    refusal = unfit(batch, found, wanted)
    if output is Output.JSON:
        print_json({"batches": found, "cancelled": refusal is None})
    elif refusal is None:
        typer.echo(f"cancelled {found[0].id} with {found[0].requests:,} requests, in state {found[0].state}")
        typer.echo("penstock status shows what it waits for until it ends")
    if refusal is not None:
        typer.echo(f"penstock: {refusal}", err=True)
        raise typer.Exit(1)


def unfit(search: str, found: Sequence[Cancellable], wanted: Cancel) -> str | None:
    """Why nothing is cancelled; None when it is, now or before."""
    if not found:
        return f"there is no batch {search}"
    if len(found) > 1:
        return f"several batches begin with {search}; give more of the id"
    (batch,) = found
    if batch.cancel is wanted:
        return None
    if batch.state in NO_MORE:
        return f"batch {batch.id} is {batch.state}: there is nothing left to cancel"
    return None
