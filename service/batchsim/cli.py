"""The `batchsim` command."""

from pathlib import Path
from typing import Annotated

import typer
from typer import BadParameter, Option

from batchsim.posting import is_url
from batchsim.rulebook import read_scenario
from batchsim.server import AddressUnusable, serve
from batchsim.settings import DAY_SECONDS, Delays, Limits, Settings
from batchsim.webhooks import signing_key

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

EXAMPLES = """
Simulates the OpenAI Files and Batches API over HTTP.

Point any OpenAI client at it: `OpenAI(base_url="http://127.0.0.1:8090/v1", api_key="any")`.

Examples:

* `batchsim --port 8090`
* `batchsim --port 0 --port-file port --state state --in-progress-seconds 0`
* `batchsim --api-key sk-test --enqueued-tokens gpt-4o=90000 --enqueued-tokens gpt-4o-mini=2000000`
* `batchsim --seed 7 --jitter 0.5 --scenario storm.toml`
* `batchsim --webhook-url http://127.0.0.1:9000/webhooks --webhook-secret whsec_c2VjcmV0`

While it runs: `PUT /control/faults` makes things go wrong, `GET /control/state` and `/control/journal` tell what
happened, `POST /control/webhooks` sends an event. The manual lists every outcome of the API and the rule that makes it.
"""


@app.command(help=EXAMPLES)
def run(
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8090,
    port_file: Annotated[Path | None, Option(help="File to write the port to, once listening.")] = None,
    state: Annotated[Path, Option(help="Folder that holds everything; the same folder goes on where it was.")] = Path(
        "batchsim-state"
    ),
    api_key: Annotated[str | None, Option(help="Key that clients must send; without it any will do.")] = None,
    seed: Annotated[str | None, Option(help="Seed of all chance; by default random, and kept in the state.")] = None,
    validating_seconds: Annotated[float, Option(min=0, help="How long a batch is validating.")] = 1.0,
    in_progress_seconds: Annotated[float, Option(min=0, help="How long it is in progress.")] = 5.0,
    finalizing_seconds: Annotated[float, Option(min=0, help="How long it is finalizing.")] = 1.0,
    cancelling_seconds: Annotated[float, Option(min=0, help="How long it is cancelling.")] = 1.0,
    jitter: Annotated[float, Option(min=0, max=1, help="Share by which each delay is varied by chance.")] = 0.0,
    window_seconds: Annotated[
        float, Option(min=0, help="Length of the completion window: later, it expires.")
    ] = DAY_SECONDS,
    embedding_dimensions: Annotated[int, Option(min=1, help="Length of vectors where a request asks for none.")] = 8,
    model: Annotated[list[str] | None, Option(help="A model that exists; repeatable, by default all do.")] = None,
    enqueued_tokens: Annotated[list[str] | None, Option(metavar="MODEL=N", help="Limit of enqueued tokens.")] = None,
    enqueued_inputs: Annotated[int, Option(min=1, help="Embedding inputs in progress at most.")] = 1_000_000,
    creates_per_hour: Annotated[int, Option(min=0, help="Batches that can be created in an hour.")] = 2_000,
    batch_requests: Annotated[int, Option(min=1, help="Requests in a batch at most.")] = 50_000,
    embedding_inputs: Annotated[int, Option(min=1, help="Embedding inputs in a batch at most.")] = 50_000,
    batch_file_bytes: Annotated[int, Option(min=1, help="Size of a batch input file at most.")] = 200_000_000,
    file_bytes: Annotated[int, Option(min=1, help="Size of any other file at most.")] = 512_000_000,
    storage_bytes: Annotated[int, Option(min=0, help="Size of all files together at most.")] = 2_500_000_000_000,
    uploads_per_minute: Annotated[int, Option(min=0, help="Files that can be uploaded in a minute.")] = 1_000,
    organization: Annotated[str, Option(help="Organization named in messages.")] = "org-batchsim",
    webhook_url: Annotated[str | None, Option(help="Where to announce the ends of batches, signed.")] = None,
    webhook_secret: Annotated[str | None, Option(help="Key that signs them: `whsec_` and base64.")] = None,
    scenario: Annotated[Path | None, Option(exists=True, dir_okay=False, help="Fault rules, JSON or TOML.")] = None,
) -> None:
    """Serve the API until a signal."""
    limits = Limits(
        file_bytes=file_bytes,
        batch_file_bytes=batch_file_bytes,
        batch_requests=batch_requests,
        embedding_inputs=embedding_inputs,
        creates_per_hour=creates_per_hour,
        storage_bytes=storage_bytes,
        uploads_per_minute=uploads_per_minute,
        enqueued_tokens=parse_enqueued_tokens(enqueued_tokens or []),
        enqueued_inputs=enqueued_inputs,
    )
    settings = Settings(
        state=state,
        api_key=api_key,
        seed=seed,
        delays=Delays(validating_seconds, in_progress_seconds, finalizing_seconds, cancelling_seconds),
        jitter=jitter,
        window_seconds=window_seconds,
        limits=limits,
        models=frozenset(model or []),
        embedding_dimensions=embedding_dimensions,
        organization=organization,
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
    )
    check_webhooks(webhook_url, webhook_secret)
    check_scenario(scenario)
    try:
        serve(settings, host, port, port_file, scenario)
    except BlockingIOError:
        raise fatal(f"another batchsim uses {state}") from None
    except AddressUnusable as error:
        raise fatal(str(error)) from error
    except OSError as error:
        raise fatal(f"cannot use the state folder {state} (--state): {error.strerror or error}") from error


def fatal(message: str) -> typer.Exit:
    """Say why the program cannot run; the exception ends it."""
    typer.echo(f"batchsim: {message}", err=True)
    return typer.Exit(1)


def parse_enqueued_tokens(options: list[str]) -> dict[str, int]:
    """The limits of `--enqueued-tokens MODEL=N`."""
    limits: dict[str, int] = {}
    for option in options:
        model, _, number = option.rpartition("=")
        if not model or not number.isdecimal():
            raise BadParameter(f"{option!r} is not of the form MODEL=N", param_hint="--enqueued-tokens")
        limits[model] = int(number)
    return limits


def check_webhooks(url: str | None, secret: str | None) -> None:
    """Refuse a url that cannot be posted to, or that comes without a secret."""
    if url is None:
        return
    if not is_url(url):
        raise BadParameter(f"{url!r} is no http or https url", param_hint="--webhook-url")
    try:
        signing_key(secret or "")
    except ValueError as error:
        raise BadParameter(str(error), param_hint="--webhook-secret") from error


def check_scenario(path: Path | None) -> None:
    """Refuse a scenario that holds no valid rules, before anything is opened."""
    if path is not None:
        try:
            read_scenario(path)
        except ValueError as error:
            raise BadParameter(f"{path}: {error}", param_hint="--scenario") from error
