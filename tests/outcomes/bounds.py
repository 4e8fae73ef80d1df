"""What is bounded in every direction: what can run full, go away or lose data here."""

from tests.outcomes.row import Row

FULL = (
    Row(
        "backlog",
        "a request topic's backlog limit is reached",
        "intake of that topic pauses, Kafka keeps the rest; it resumes by itself at 80 %",
    ),
    Row(
        "spool-full",
        "the spool's disk is full",
        "the batch waits with `No space left on device`, others go on; it goes when there is room",
    ),
    Row(
        "result-too-large",
        "a result over its topic's `max.message.bytes`",
        "a dead letter `result_too_large` in the same transaction; the provider's file is kept",
    ),
    Row("dead-letter-too-large", "a dead letter over its topic's limit", "cut, with its size and SHA-256"),
    Row("topic-refuses", "a result topic that is gone", "the batch is parked, the slot goes on"),
)

AWAY = (
    Row(
        "postgres-away",
        "Postgres is gone for ten minutes",
        "everything waits, the group's generation stays, nothing is lost; no help needed",
    ),
    Row(
        "postgres-switched",
        "Postgres' primary fails over, and the old one comes back as a standby",
        "connections to a read-only server are dropped and refused, `/readyz` says so; it goes on with the new primary",
    ),
    Row(
        "transaction-open",
        "a producer of requests leaves a transaction open",
        "what follows it waits; `penstock status`, a metric and the log say since when, and in which partition",
    ),
    Row(
        "kafka-quota",
        "a broker holds the results' producers to a quota",
        "transactions become smaller until they end well before their time-out; nothing is lost or doubled",
    ),
    Row("kafka-away", "the broker is gone for ten minutes", "everything waits, nothing is lost; no help needed"),
)

LOST = (
    Row(
        "retention-passed",
        "the topic was truncated, or retention ran past the position",
        "that partition halts: `penstock resume partition` says what is lost and goes on",
    ),
    Row(
        "log-replaced",
        "a partition's log lost records that were taken, and other messages have their offsets",
        "that partition halts with the exact offsets: `penstock resume partition` goes on at the first of them, and"
        " the new messages are answered under new result ids",
    ),
    Row(
        "restored-before-replaced",
        "Postgres is restored from a backup that is older than the replacement of a partition's log",
        "`penstock resume restored` halts that partition: an operator says where its new messages begin, and nothing"
        " that was answered in the later incarnation is answered again",
    ),
    Row(
        "no-topic-ids",
        "the brokers give no topic ids",
        "`penstock check` and `penstock run` refuse them: positions of several topics would be one",
    ),
    Row(
        "topic-recreated",
        "the topic was deleted and made again",
        "it is another topic, read from its beginning; nothing of it is taken twice",
    ),
    Row(
        "position-lost",
        "Kafka's group is ahead of Postgres: Postgres was restored from an older backup",
        "that partition halts, and never seeks back by itself",
    ),
    Row(
        "ledger-unknown",
        "the ledger names a batch or a decision that Postgres does not know",
        "that slot halts; nothing of it is published",
    ),
    Row(
        "restored",
        "Postgres was restored from an older backup, with results published since",
        "replicas seal, submit and publish nothing (`data.lost`); `penstock resume restored` reads the result topics, "
        "adopts or cancels what the provider has, and all goes on: nothing lost, nothing doubled",
    ),
    Row("ledger-lost", "the ledger is behind what Postgres saw committed", "that slot halts"),
)
