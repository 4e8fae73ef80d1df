"""The catalogue of metrics: every name, its labels and its help text.

Labels are bounded: `lane` is a configured lane name or `other`, `account` is or was configured, `endpoint` is one of
the Batch API's endpoints.
Seconds and bytes are base units; counters end in `_total`.
"""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from penstock.telemetry.bulk_histogram import BulkHistogram

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, that no query here reads

HOURS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 129600, 172800)
CALLS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

# Requests, from topic to topic
requests_received = Counter("penstock_requests_received_total", "Requests stored by intake.", ["topic", "lane"])
messages_rejected = Counter(
    "penstock_messages_rejected_total", "Messages that cannot be a request.", ["topic", "reason"]
)
results_published = Counter(
    "penstock_results_published_total", "Results in a committed transaction.", ["lane", "outcome"]
)
dead_letters_published = Counter(
    "penstock_dead_letters_published_total", "Dead letters in a committed transaction.", ["reason"]
)
requests_retried = Counter("penstock_requests_retried_total", "Requests given another try.", ["lane", "reason"])
result_latency = BulkHistogram(
    "penstock_result_latency_seconds", "From a message's Kafka timestamp to its committed result.", "endpoint", HOURS
)

# Queue (cluster-wide, from the holder of the gauges lease)
queue_requests = Gauge("penstock_queue_requests", "Requests waiting, by where they wait.", ["lane", "stage"])
queue_bytes = Gauge("penstock_queue_bytes", "Bytes of requests waiting, by where they wait.", ["lane", "stage"])
queue_oldest_age = Gauge(
    "penstock_queue_oldest_age_seconds",
    "Age of the oldest stored request without an answer, from its Kafka timestamp.",
    ["lane"],
)
queue_unstored = Gauge(
    "penstock_queue_unstored_seconds",
    "The longest that a waiting request lay in Kafka before Penstock stored it: part of its age.",
    ["lane"],
)
queue_deadline = Gauge(
    "penstock_queue_deadline_ratio",
    "Most that a waiting request has used of its time from storing to its deadline.",
    ["lane"],
)
quota_wait = Gauge(
    "penstock_quota_wait_seconds", "Age of the oldest sealed batch that waits for enqueued tokens.", ["lane"]
)
batches = Gauge("penstock_batches", "Batches by state.", ["state"])
provider_batches = Gauge("penstock_provider_batches", "Open batches by the provider's status.", ["status"])
validating_late = Gauge(
    "penstock_validating_late_batches",
    "Batches that the provider validates for longer than PENSTOCK_SUBMITTER_VALIDATING_SECONDS_MAX.",
    ["account"],
)
in_doubt_creates = Gauge("penstock_in_doubt_creates", "Creates whose answer is not known.")
in_doubt_age = Gauge("penstock_in_doubt_age_seconds", "Age of the oldest create in doubt.")
enqueued_tokens = Gauge("penstock_enqueued_tokens", "Tokens reserved at the provider.", ["lane"])
enqueued_tokens_limit = Gauge("penstock_enqueued_tokens_limit", "Enqueued-token limit in force, where known.", ["lane"])
backlog_bytes = Gauge("penstock_backlog_bytes", "Bytes that a request topic holds in Postgres.", ["topic"])
backlog_limit_bytes = Gauge("penstock_backlog_limit_bytes", "Where intake of a topic pauses.", ["topic"])
backlog_paused = Gauge("penstock_backlog_paused", "1 while intake of a topic is paused by its backlog.", ["topic"])
topic_paused = Gauge("penstock_topic_paused", "1 while intake of a topic is paused by an operator.", ["topic"])
creates_used = Gauge("penstock_creates_used", "Creates of the last hour.", ["account"])
creates_limit = Gauge("penstock_creates_limit", "Creates that an account may make in an hour.", ["account"])
window_age_stretched = Gauge(
    "penstock_window_age_stretched_seconds", "How far the oldest due window waits past its age for the create budget."
)
windows_held = Gauge(
    "penstock_windows_held", "Windows that are due and wait unsealed, since enough is sealed of their model already."
)
probes_overdue = Gauge(
    "penstock_probes_overdue", "Lanes whose probe of a failing provider takes over an hour, and holds nothing up."
)
actionable_work = Gauge(
    "penstock_actionable_work",
    "Batches that a stage could work on now, if the provider answers.",
    ["stage", "account"],
)
pauses = Gauge("penstock_pauses", "What operators hold paused: lanes, accounts, topics.", ["kind"])
pause_age = Gauge("penstock_pause_age_seconds", "Age of the oldest pause.", ["kind"])
lanes_halted = Gauge("penstock_lanes_halted", "Lanes halted for safety: the provider refused what we wrote.")
parked_batches = Gauge("penstock_parked_batches", "Batches that are set aside because their topic refuses.")
files_life = Gauge(
    "penstock_provider_files_life_ratio",
    "Least share of their life that output files of unpublished batches still have.",
    ["account"],
)
uncollected_age = Gauge(
    "penstock_uncollected_age_seconds",
    "Age of the oldest batch that has ended at the provider and whose files are not collected.",
    ["account"],
)
postgres_size = Gauge("penstock_postgres_size_bytes", "Size of the database.")
postgres_size_limit = Gauge("penstock_postgres_size_limit_bytes", "Size of the database that its disk has room for.")
replica_generations = Gauge("penstock_replica_generations", "Different lane configurations among live replicas.")

# Batches
batches_sealed = Counter("penstock_batches_sealed_total", "Windows sealed.", ["lane", "reason"])
window_fill = Histogram(
    "penstock_window_fill_ratio",
    "Requests of a sealed window over its limit.",
    ["endpoint"],
    buckets=(0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1),
)
batches_submitted = Counter("penstock_batches_submitted_total", "Batches created at the provider.", ["lane"])
batches_ended = Counter("penstock_batches_ended_total", "Batches that ended at the provider.", ["lane", "status"])
batches_refused = Counter(
    "penstock_batches_refused_total", "Refusals of batches, at upload, create or validation.", ["code"]
)
batches_published = Counter("penstock_batches_published_total", "Batches whose every result is published.", ["lane"])
phase_seconds = Histogram("penstock_phase_seconds", "Time of a batch in each phase.", ["phase"], buckets=HOURS)
duplicates = Counter("penstock_duplicate_executions_total", "Requests that may be paid twice.", ["cause"])
creates_in_doubt = Counter("penstock_creates_in_doubt_total", "Creates whose answer was lost.")
lists_stale = Counter(
    "penstock_provider_lists_stale_total", "Batches that the list showed in an older status than retrieve.", ["account"]
)
given_up_unended = Counter(
    "penstock_given_up_unended_total",
    "Batches that were given up, never ended, and are watched no longer.",
    ["account"],
)
statuses_unknown = Counter("penstock_provider_statuses_unknown_total", "Statuses of the provider that are not known.")
objects_unreadable = Counter(
    "penstock_provider_objects_unreadable_total", "Listed batches and files that make no sense.", ["kind"]
)
sizes_wrong = Counter(
    "penstock_provider_sizes_wrong_total",
    "Files that are whole and of another size than the provider told.",
    ["account"],
)
downloads_failed = Counter(
    "penstock_downloads_failed_total", "Times that the files of an ended batch could not be had.", ["account"]
)
results_unreadable = Counter(
    "penstock_results_unreadable_total", "Requests whose result was paid for and cannot be read.", ["lane"]
)
lines_unmatched = Counter("penstock_provider_lines_unmatched_total", "Provider lines that fit no request.", ["kind"])
orphans_removed = Counter(
    "penstock_orphans_removed_total", "Provider objects removed that nothing refers to.", ["kind"]
)

# Money
tokens_used = Counter("penstock_tokens_used_total", "Tokens billed by the provider.", ["lane", "direction"])
cost_usd = Counter("penstock_cost_usd_total", "Cost of ended batches at batch prices.", ["lane"])
saving_usd = Counter("penstock_saving_usd_total", "What the same tokens cost more at synchronous prices.", ["lane"])
spending_usd = Gauge(
    "penstock_spending_usd",
    "Spent today (UTC) by an account or lane that has a limit, what is under way included.",
    ["kind", "name"],
)
spending_limit_usd = Gauge("penstock_spending_limit_usd", "What may be spent on a day.", ["kind", "name"])
spending_stopped = Gauge(
    "penstock_spending_stopped", "1 while nothing more is sealed of an account or lane today.", ["kind", "name"]
)
tokens_in_vain = Counter(
    "penstock_tokens_in_vain_total", "Tokens billed for batches that had been given up.", ["lane", "direction"]
)
cost_in_vain = Counter("penstock_cost_in_vain_usd_total", "Cost of batches that had been given up.", ["lane"])
tokens_unpriced = Counter("penstock_tokens_unpriced_total", "Tokens of models without a known batch price.")

# Provider, Kafka, Postgres
provider_calls = Counter("penstock_provider_calls_total", "Calls to the provider.", ["account", "operation", "status"])
provider_call_seconds = Histogram("penstock_provider_call_seconds", "Duration of calls.", ["operation"], buckets=CALLS)
webhooks = Counter(
    "penstock_webhooks_total",
    "Webhooks received: accepted, repeated, ignored (not of a batch), lost (to be sent again), or refused as forged,"
    " untimely, too_large or broken.",
    ["outcome"],
)
provider_away = Gauge(
    "penstock_provider_away", "1 while the provider does not answer this replica, or with 5xx.", ["account"]
)
account_halted = Gauge(
    "penstock_account_halted",
    "1 while the provider refuses the account: its key, bill, storage or base URL.",
    ["account", "stage"],
)
account_unknown_requests = Gauge(
    "penstock_account_unknown_requests", "Requests that wait for an account that is configured no more.", ["account"]
)
leases_lost = Counter("penstock_leases_lost_total", "Leases that another replica took or that ran out.", ["kind"])
producers_fenced = Counter("penstock_producers_fenced_total", "Producers replaced after a failure or a fence.")
transactions_aborted = Counter("penstock_transactions_aborted_total", "Kafka transactions given up.")
rebalances = Counter("penstock_rebalances_total", "Assignments received by intake.")
partitions_assigned = Gauge("penstock_partitions_assigned", "Partitions that this replica consumes.")
partitions_halted = Gauge("penstock_partitions_halted", "Partitions of this replica halted for safety.", ["topic"])
consumer_held = Gauge(
    "penstock_consumer_held_records",
    "Records that wait for a producer to commit or abort its transaction, of this replica's partitions.",
    ["topic"],
)
consumer_lag = Gauge(
    "penstock_consumer_lag_records",
    "Records not yet stored, of this replica's partitions but those that are halted.",
    ["topic"],
)
retention_headroom = Gauge(
    "penstock_retention_headroom_ratio",
    "Least share of a topic's retention time that the oldest unstored record still has, in halted partitions too.",
    ["topic"],
)
intake_resets = Counter("penstock_intake_resets_total", "Times intake went back to Postgres' positions.", ["cause"])
slots_held = Gauge("penstock_slots_held", "Slots that this replica publishes.")
data_lost = Gauge("penstock_data_lost", "1 while Postgres lacks what the ledger proves: it was restored.")
slots_halted = Gauge("penstock_slots_halted", "Slots halted for safety: the ledger and Postgres disagree.")
batches_parked = Counter("penstock_batches_parked_total", "Batches set aside because their topic refuses.")
formats_unknown = Counter(
    "penstock_formats_unknown_total", "Records in a format of a newer version that were met and left alone.", ["kind"]
)
pool_wait = Histogram("penstock_postgres_pool_wait_seconds", "Wait for a connection.", buckets=CALLS)

# Process
stage_progress = Gauge("penstock_stage_progress_timestamp_seconds", "When a stage last made progress.", ["stage"])
stage_failures = Counter(
    "penstock_stage_failures_total", "Rounds of a stage that failed and were tried again.", ["stage"]
)
loop_lag = Gauge("penstock_loop_lag_seconds", "Longest delay of the event loop in the last 10 seconds.")
spool_bytes = Gauge("penstock_spool_bytes", "Bytes reserved in the spool folder.", ["direction"])
spool_limit = Gauge("penstock_spool_limit_bytes", "Bytes that may be reserved in the spool folder.", ["direction"])
spool_free = Gauge("penstock_spool_free_bytes", "Bytes that the spool folder's disk has free.")
build_info = Gauge("penstock_build_info", "Version and deployment.", ["version", "deployment"])

for _cause in ("create", "abandoned", "file_lost", "line_lost", "unreadable"):
    duplicates.labels(_cause)  # shown from the start: of a series that begins with its first count nobody sees a rise
for _kind in ("chunk", "manifest", "decision", "ledger"):
    formats_unknown.labels(_kind)


def show_lanes(names: Iterable[str]) -> None:
    """Show what lanes cost from the start: 0, so that the first count is seen as a rise."""
    for name in names:
        cost_usd.labels(name)
        saving_usd.labels(name)
        for direction in ("input", "output"):
            tokens_used.labels(name, direction)


def forget(*gauges: Gauge) -> None:
    """Show no values of some gauges; 0 of those without labels, which cannot be left out."""
    for gauge in gauges:
        if gauge._labelnames:  # noqa: SLF001 - the library has no public way
            gauge.clear()
        else:
            gauge.set(0)
