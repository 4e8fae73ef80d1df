"""Settings, from the environment alone: ``PENSTOCK_<SECTION>_<NAME>``. Each stage gets only its section.

Secrets can come from files (``…_FILE``), which are read again at each connect, so that a rotated secret is taken up
without a restart.
"""

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from penstock.core.errors import ConfigurationError
from penstock.core.lane import Lanes
from penstock.core.lanes_file import collect_lanes
from penstock.core.problems import Problems
from penstock.files import FileUnreadable, reading
from penstock.variables import PREFIX, read_values, unknown_variables, variable

HINTED = {"interval_seconds": 60.0, "interval_max_seconds": 600.0}
"""How rarely the poller looks by itself when webhooks tell it."""


class Section(BaseModel):
    """A frozen group of settings that refuses names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def read_secret(value: SecretStr | None, file: Path | None, setting: str) -> str | None:
    """A secret from its file, read now, else from the environment.

    Args:
        value: from the environment.
        file: that holds it.
        setting: that names the file.

    Raises:
        FileUnreadable: the file cannot be read.
    """
    if file is not None:
        with reading(setting, file):
            return file.read_text().strip()
    return value.get_secret_value() if value is not None else None


class KafkaSettings(Section):
    """Broker, topics and security."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Brokers as `host:port`, comma separated.")
    request_topics: tuple[str, ...] = Field(
        ("penstock.requests",), description="Topics to consume, comma separated; each has its own backlog limit."
    )
    result_topic: str = Field("penstock.results", description="Where results go unless a lane or a header says else.")
    dead_letter_topic: str = Field("penstock.dead-letters", description="Where rejected messages go.")
    result_compression: Literal["zstd", "gzip", "none"] = Field(
        "zstd",
        description="Codec of results, dead letters and ledger. `gzip` costs several times the CPU, and every client"
        " reads it without a further library.",
    )
    ledger_topic: str = Field("penstock.ledger", description="The publisher's compacted ledger; a partition per slot.")
    group: str = Field("", description="Consumer group; `penstock-` and the deployment's id by default.")
    session_seconds: float = Field(
        30.0, ge=6, le=300, description="A replica that sends no heartbeat for so long loses its partitions."
    )
    metadata_seconds: float = Field(
        60.0, ge=1, description="Topics are looked up this often: a new partition is consumed after this."
    )
    start_at: Literal["earliest", "latest"] = Field("earliest", description="Where a partition never seen starts.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="How to authenticate under SASL."
    )
    sasl_username: str | None = Field(None, description="User name for PLAIN and SCRAM.")
    sasl_password: SecretStr | None = Field(None, description="Password for PLAIN and SCRAM.")
    sasl_password_file: Path | None = Field(None, description="File that holds the password.")
    sasl_token_file: Path | None = Field(None, description="File that holds the OAUTHBEARER token; read per connect.")
    ca_file: Path | None = Field(None, description="Authorities that sign the brokers' certificates (PEM).")
    certificate_file: Path | None = Field(None, description="Client certificate for mTLS (PEM).")
    key_file: Path | None = Field(None, description="Client key for mTLS (PEM).")

    @field_validator("request_topics", mode="before")
    @classmethod
    def split_topics(cls, value: object) -> object:
        """Take a comma-separated text."""
        return tuple(filter(None, (topic.strip() for topic in value.split(",")))) if isinstance(value, str) else value

    @field_validator("request_topics")
    @classmethod
    def require_topics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """At least one, none twice."""
        if not value or len(set(value)) != len(value):
            raise ValueError("name at least one topic, and each once")
        return value

    def read_password(self) -> str | None:
        """The SASL password as it is now."""
        return read_secret(self.sasl_password, self.sasl_password_file, variable(("kafka", "sasl_password_file")))


class PostgresSettings(Section):
    """The database that holds windows and their status."""

    dsn: SecretStr | None = Field(
        None,
        description="`postgresql://user:password@host:5432/database?sslmode=verify-full`; required. Of several hosts "
        "(`host1:5432,host2:5432`) the one that takes writes is used.",
    )
    dsn_file: Path | None = Field(None, description="File that holds the DSN.")
    password_file: Path | None = Field(None, description="File that holds the password, when the DSN has none.")
    connections_max: int = Field(4, ge=2, le=16, description="Connections of one process, at most.")
    statement_cache: bool = Field(True, description="Off for a PgBouncer in transaction mode.")
    size_bytes_max: int = Field(
        100 * 1024**3,
        ge=1024,
        description="Size of the database that its disk has room for. Nothing stops there: an alert compares.",
    )

    @property
    def dsn_variable(self) -> str:
        """The variable that the DSN comes from."""
        return variable(("postgres", "dsn_file" if self.dsn_file is not None else "dsn"))

    def read_password(self) -> str | None:
        """The password as it is now; None where the DSN has it.

        Raises:
            FileUnreadable: its file cannot be read.
        """
        return read_secret(None, self.password_file, variable(("postgres", "password_file")))

    def read_dsn(self) -> str:
        """The DSN as it is now.

        Raises:
            ConfigurationError: none is set.
        """
        dsn = read_secret(self.dsn, self.dsn_file, variable(("postgres", "dsn_file")))
        if not dsn:
            raise ConfigurationError(f"{PREFIX}POSTGRES_DSN is not set; it takes postgresql://user@host:5432/database")
        return dsn


class ProviderSettings(Section):
    """The Batch API."""

    account: str = Field(
        "default", description="Name of the account in lanes and metrics; the lanes file may name others."
    )
    base_url: str = Field("https://api.openai.com/v1", description="The API's root, `/v1` included.")
    auth: Literal["key", "none"] = Field(
        "key", description="`none` for a provider that takes no API key: then none is needed, and none is sent."
    )
    api_key: SecretStr | None = Field(None, description="The key.")
    api_key_file: Path | None = Field(None, description="File that holds the key; read again after a 401.")
    organization: str | None = Field(None, description="Organization id, when the key has several.")
    project: str | None = Field(None, description="Project id, when the key has several.")
    timeout_seconds: float = Field(
        120.0,
        gt=0,
        description="Of a call, its retries included; downloads per read, uploads by their size.",
    )
    creates_per_hour: int = Field(2000, ge=1, description="Batches that the account may create in an hour.")
    usd_per_day_max: float | None = Field(
        None, gt=0, description="US dollars that the account may spend on a day of UTC; past it nothing more is sealed."
    )
    file_expires_seconds: int = Field(
        7 * 86400, ge=3600, le=2592000, description="Provider files expire by themselves after this."
    )

    def read_api_key(self) -> str | None:
        """The key as it is now."""
        return read_secret(self.api_key, self.api_key_file, f"api_key_file of account {self.account!r}")


class WebhookSettings(Section):
    """The provider's webhooks. They hint at what polling would find; with them polling is slow."""

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - they come from outside
    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port that receives them, at `/webhooks` (those of other accounts at `/webhooks/NAME`);"
        " off without. 0 takes a free one.",
    )
    secret: SecretStr | None = Field(None, description="The secret that signs them, `whsec_...`.")
    secret_file: Path | None = Field(None, description="File that holds the secret; read for each webhook.")

    @model_validator(mode="after")
    def require_secret(self) -> Self:
        """What cannot be proven is not received."""
        if self.port is not None and self.secret is None and self.secret_file is None:
            raise ValueError(f"{PREFIX}WEBHOOK_PORT needs {PREFIX}WEBHOOK_SECRET or {PREFIX}WEBHOOK_SECRET_FILE")
        return self

    def read_secret(self) -> str:
        """The secret as it is now.

        Raises:
            ConfigurationError: there is none: anybody could sign with an empty one.
            OSError: the file cannot be read.
        """
        of_account = "webhook_secret_file of the lanes file"  # where the port is not this account's to set
        setting = variable(("webhook", "secret_file")) if self.port is not None else of_account
        secret = read_secret(self.secret, self.secret_file, setting) or ""
        if not secret.removeprefix("whsec_"):
            raise ConfigurationError(
                f"{self.secret_file or f'{PREFIX}WEBHOOK_SECRET'} is empty; it takes the webhook's whsec_... secret"
            )
        return secret


class IntakeSettings(Section):
    """Gatherings of polls and the backlog."""

    linger_seconds: float = Field(20.0, ge=0, description="How long a gathering waits for more.")
    requests_max: int = Field(5000, ge=1, le=50_000, description="Messages of one gathering, at most.")
    bytes_max: int = Field(8 * 1024 * 1024, ge=1024, description="Bytes of one gathering, about.")
    body_bytes_max: int = Field(
        16 * 1024 * 1024, ge=1024, le=199_000_000, description="Bytes of one body, at most; less than a batch."
    )
    backlog_bytes_max: int = Field(
        20 * 1024**3,
        ge=1024,
        description="Bytes that a request topic may hold in Postgres before its intake pauses (see the lanes file).",
    )


class SubmitterSettings(Section):
    """Uploads and creates."""

    concurrency: int = Field(2, ge=1, le=32, description="Batches that one replica submits at a time, to each account.")
    look_up_seconds: float = Field(20.0, gt=0, description="A create in doubt is looked up this often.")
    settle_seconds: float = Field(
        120.0, ge=0, description="Beyond the call's time-out: how long a lost create may take to become visible."
    )
    validating_seconds_max: float = Field(
        900.0,
        gt=0,
        le=86_400,
        description="A batch that the provider validates for longer holds up no other of its model, and is reported.",
    )


class PollerSettings(Section):
    """Watching batches."""

    interval_seconds: float = Field(
        5.0, gt=0, description="Shortest time between two rounds; with webhooks 60 by default."
    )
    interval_max_seconds: float = Field(
        60.0, gt=0, description="Longest time between two rounds; with webhooks 600 by default."
    )
    stuck_grace_seconds: float = Field(3600.0, ge=0, description="Past its expiry a batch is cancelled after this.")
    cancel_grace_seconds: float = Field(
        1800.0,
        ge=0,
        description="A batch that must end, and does not, or cannot be retrieved for so long, is given up.",
    )
    unmoved_seconds: float = Field(
        300.0,
        ge=1,
        le=86400,
        description="A batch whose status does not move in the list is retrieved by itself this often.",
    )
    given_up_seconds: float = Field(
        7 * 86400.0,
        ge=3600,
        le=30 * 86400,
        description="A batch that was given up and never ends is watched for so long. Its tokens are held for an hour.",
    )

    def hinted(self) -> Self:
        """The same where webhooks tell what happens: slower, but for what was set."""
        return self.model_copy(update={name: HINTED[name] for name in HINTED.keys() - self.model_fields_set})


class PublisherSettings(Section):
    """Slots and transactions."""

    slots: int = Field(32, ge=1, le=1024, description="Slots for new batches; the ledger has as many partitions.")
    slots_held_max: int = Field(4, ge=1, description="Slots that one replica works at a time.")
    transaction_records_max: int = Field(10_000, ge=1, description="Results of one transaction, at most.")
    transaction_bytes_max: int = Field(32 * 1024 * 1024, ge=1024, description="Bytes of one transaction, about.")
    file_gone_seconds: float = Field(
        600.0,
        ge=0,
        description="An output file that is missing for so long is taken as lost; its lines are sent again.",
    )
    unreadable_max: int = Field(
        2,
        ge=1,
        le=100,
        description="A request whose result came back unreadable so often gets the error `unreadable_result`.",
    )
    transaction_timeout_seconds: float = Field(60.0, ge=3, description="The broker aborts a transaction after this.")


class JanitorSettings(Section):
    """Clean-up."""

    interval_seconds: float = Field(60.0, gt=0, description="Time between two rounds.")
    file_grace_seconds: float = Field(86400.0, ge=0, description="Provider files and ledger keys outlive publishing.")
    orphan_grace_seconds: float = Field(86400.0, ge=0, description="Files nothing refers to are kept this long.")
    payload_turn_seconds: float = Field(3600.0, gt=0, description="How long one payload table of the ring is filled.")


def temporary_folder() -> Path:
    """Where temporary files go; where there is nowhere to write, as for a Job of `migrate`, that is no mistake yet."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path("/tmp")  # noqa: S108 - only a default: the spool makes its own folder, and says when it cannot


class SpoolSettings(Section):
    """Disk space for uploads and downloads."""

    folder: Path = Field(temporary_folder() / "penstock", description="A folder on disk, never in memory.")
    upload_bytes_max: int = Field(2 * 1024**3, ge=1024, description="Bytes that uploads may take at a time.")
    download_bytes_max: int = Field(16 * 1024**3, ge=1024, description="Bytes that downloads may take at a time.")


class LeaseSettings(Section):
    """The one lease mechanism."""

    seconds: float = Field(30.0, ge=1, description="A dead holder's work goes to another replica after this.")


class HttpSettings(Section):
    """Health and metrics."""

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a pod's probes and scrapers come from outside
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")


class LogSettings(Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is written.")
    format: Literal["json", "console"] = Field("json", description="JSON lines, or lines for people.")


class Settings(Section):
    """All settings; read once, at the edge."""

    deployment: str = Field(
        "penstock", pattern=r"^[a-z0-9][a-z0-9-]{0,39}$", description="Id of this deployment at provider and Kafka."
    )
    generation: int = Field(0, ge=0, description="Number of the lanes file's version; the newest replica's one wins.")
    lanes_file: Path | None = Field(None, description="TOML file with lane limits; defaults work without one.")
    history_days: float = Field(7.0, gt=0, description="How long finished requests stay findable.")
    drain_seconds: float = Field(25.0, gt=0, description="Time to finish after SIGTERM.")
    grace_seconds: float | None = Field(
        None, gt=0, description="What the platform gives after SIGTERM before it kills; if set, held against the drain."
    )
    kafka: KafkaSettings = KafkaSettings()
    postgres: PostgresSettings = PostgresSettings()
    provider: ProviderSettings = ProviderSettings()
    webhook: WebhookSettings = WebhookSettings()
    intake: IntakeSettings = IntakeSettings()
    submitter: SubmitterSettings = SubmitterSettings()
    poller: PollerSettings = PollerSettings()
    publisher: PublisherSettings = PublisherSettings()
    janitor: JanitorSettings = JanitorSettings()
    spool: SpoolSettings = SpoolSettings()
    lease: LeaseSettings = LeaseSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """Settings that bind each other."""
        topics = {self.kafka.result_topic, self.kafka.dead_letter_topic, self.kafka.ledger_topic}
        if len(topics) < 3 or topics & set(self.kafka.request_topics):  # noqa: PLR2004 - three kinds of topic
            raise ValueError("request, result, dead-letter and ledger topics must all differ")
        if self.grace_seconds is not None and self.grace_seconds <= self.drain_seconds:
            raise ValueError(f"{PREFIX}GRACE_SECONDS must be above {PREFIX}DRAIN_SECONDS: a drain is else cut off")
        return self

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.kafka.group or f"penstock-{self.deployment}"

    def read_lanes(self) -> Lanes:
        """The lanes document, or its defaults.

        Raises:
            ConfigurationError: the file cannot be read, or is wrong; every mistake is named with its place.
        """
        problems = Problems()
        lanes = self.collect_lanes(problems)
        problems.settle()
        return lanes

    def collect_lanes(self, problems: Problems) -> Lanes:
        """The lanes document without what is wrong with it, which becomes problems."""
        if self.lanes_file is None:
            return Lanes()
        setting = variable(("lanes_file",))
        try:
            with reading(setting, self.lanes_file):
                text = self.lanes_file.read_text()
            document = tomllib.loads(text)
        except FileUnreadable as error:
            problems.add(str(error))
            return Lanes()
        except ValueError as error:
            problems.add(f"{setting}: {self.lanes_file}: {error}")
            return Lanes()
        return collect_lanes(document, problems)


def load_settings(environment: Mapping[str, str] | None = None, /, **overrides: Any) -> Settings:
    """Read the environment.

    Args:
        environment: the variables; those of this process when not given.
        overrides: what goes before them: values by name, and tables of values by section.

    Raises:
        ConfigurationError: naming each variable that is wrong or unknown, and what it takes.
    """
    given = os.environ if environment is None else environment
    problems = Problems(list(unknown_variables(Settings, given)))
    values = read_values(Settings, given)
    for name, value in overrides.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(*problems.found, *mistakes(error)) from None
    problems.settle()
    return settings


def mistakes(error: ValidationError) -> list[str]:
    """Each value that is wrong, by its variable; never the value."""
    return [f"{variable(tuple(map(str, each['loc'])))}: {each['msg']}" for each in error.errors()]
