"""What becomes of calls to the provider, of its limits and of its webhooks."""

from tests.outcomes.row import Row

CREATES = (
    Row("create-429", "create answered 429", "nothing was made: it goes again after `Retry-After` or a growing wait"),
    Row(
        "create-429-done",
        "create answered 429, the batch was made all the same",
        "no such answer is known; it goes again, and the janitor cancels the first one or counts it as paid twice",
    ),
    Row(
        "create-5xx", "create answered 5xx, no batch was made", "in doubt: looked up, and created again once it is sure"
    ),
    Row(
        "create-5xx-done",
        "create answered 5xx, the batch was made",
        "in doubt: looked up and adopted, never made again",
    ),
    Row("create-timeout", "create not answered, no batch was made", "in doubt, as with 5xx"),
    Row("create-timeout-done", "create not answered, the batch was made", "in doubt, adopted"),
    Row("create-late", "create dropped, the batch is made seconds later", "the deciding look-up comes late enough"),
    Row(
        "create-too-late",
        "create dropped, the batch is made after the deciding look-up",
        "paid twice, counted once; what still runs is cancelled; published once",
    ),
    Row("create-unreachable", "the connection is never made", "nothing was made: it goes again"),
    Row("create-answer-terminal", "create answered with a batch that is over", "it is collected"),
    Row("create-sdk-retry", "the SDK would retry a create by itself", "creates are sent once, without its retries"),
    Row(
        "cannot-find-file-400",
        'create answered 400 "Cannot find file" though it is there',
        "the same file again after a wait, then a new upload each time, until the deadline",
    ),
    Row(
        "create-refused",
        "create answered with a 4xx that nobody foresaw",
        "the lane halts with the provider's words (`lane.halted`); nothing is answered",
    ),
    Row("create-refused-model", "create refuses the model or the url", "every request is answered with it"),
    Row("create-refused-line", "upload or create answered 400 that names a line", "that line is answered alone"),
    Row("create-refused-size", "create answered 413", "the batch is split; a single request is answered"),
    Row(
        "metadata-dropped",
        "a create in doubt at a provider that drops metadata",
        "its batch is known by its input file, and adopted",
    ),
    Row(
        "create-doubled",
        "a proxy sends a create twice: two batches",
        "the spare one is cancelled while it runs; what it executed is counted",
    ),
    Row(
        "create-cancelled-in-doubt",
        "a create in doubt that cannot be looked up, and an operator cancels it",
        "its requests are answered or go again; the batch is counted as a spare one when it is seen",
    ),
    Row(
        "cancel-split",
        "a batch is cancelled and then split",
        "its pieces are cancelled, too",
    ),
    Row(
        "list-endless",
        "a list of batches that neither ends nor moves on, and a create in doubt",
        "a batch that it shows is adopted; of one that it does not show nothing is decided",
    ),
    Row(
        "files-endless",
        "a list of files that neither ends nor moves on",
        "the search ends with a reason; after some tries the file is uploaded again",
    ),
    Row(
        "cancel-ended",
        "a batch has ended, a file of it cannot be downloaded, and an operator cancels it",
        "at the next try it is decided by the files that can be had; the rest is answered or goes again",
    ),
    Row(
        "creates-per-hour",
        "more than 2,000 creates an hour",
        "never sent, across replicas: windows wait longer, oldest and fullest first",
    ),
)

READS = (
    Row("single-poll-fails", "a poll that fails", "the next one sees it; nothing ends by it"),
    Row("retrieve-fails", "one batch that cannot be retrieved", "it keeps no other from being seen"),
    Row(
        "list-stale",
        "a list without what was created in the last 60 s",
        "absence is no status: stragglers are retrieved",
    ),
    Row(
        "list-stale-doubt", "a stale list while a create is in doubt", "looked up again for longer than lists are stale"
    ),
    Row(
        "list-without-has-more",
        "a list that takes few at a time, or does not say whether there is more",
        "asked for as many as it takes; it is read until it ends, or nothing is decided by it",
    ),
    Row("list-page-2", "a list that fails on page 2", "a look-up that has not read every page decides nothing"),
    Row("cancel-409", "409 to a cancel: the batch is over", "it is retrieved and collected"),
    Row("rate-limited", "429 with a small `Retry-After`, on any call", "waited for"),
    Row(
        "retry-after-huge",
        "429 with a `Retry-After` of a day",
        "waited for half an hour at most at a time, and asked again",
    ),
    Row(
        "provider-down",
        "the provider is away for an hour",
        "ready and degraded; nothing fails or is lost; calls get rarer; at its return what waits goes, a few "
        "batches at a time",
    ),
    Row(
        "overloaded",
        "most calls answered 503 for a while",
        "every answer comes in the end, and nothing is paid twice but what was in doubt",
    ),
    Row(
        "key-revoked",
        "the key is revoked: 401 or 403",
        "the account halts loudly (`account.denied`), degraded; the mended key file is taken up without a restart",
    ),
    Row(
        "account-refused",
        "402, 403, or a code of billing or quota on any call",
        "the account halts with the provider's code and words; nothing is answered; one call is tried at growing "
        "intervals, and it goes on by itself",
    ),
    Row("redirected", "a redirect, on any call", "not followed: the account halts, and the other host is named"),
    Row(
        "key-changed",
        "404 for everything: the key is of another project",
        "404 is no status: the account halts loudly (`account.empty`), files are waited for; mended, all goes on, "
        "nothing is paid twice",
    ),
    Row("redownload-input", "batch input files that cannot be downloaded", "none ever is"),
)

FILES = (
    Row("download-cut", "a download that is cut", "downloaded again"),
    Row("download-short", "a download that ends early as if it were whole", "its bytes are counted: downloaded again"),
    Row(
        "download-corrupt",
        "a download with lines that cannot be read",
        "downloaded again; a second one that agrees is believed",
    ),
    Row("download-reordered", "another order at the second download", "read anew against the decision"),
    Row(
        "download-lost-line",
        "a decided line is not in the second download",
        "it goes again, if it was not published, counted as paid twice (`file_lost`)",
    ),
    Row(
        "large-output",
        "outputs of many megabytes",
        "streamed to the spool: 50,000 requests of 1 KB pass in 256 MiB, and a file of 3.3 GB likewise, "
        "[measured](benchmarks.md) (`python -m tests.benchmark memory-output`)",
    ),
    Row("upload-cut", "an upload that is cut", "uploaded again; one that arrived whole is found by its name"),
    Row(
        "upload-truncated", "an upload of which the end is lost at the provider", "its size is compared: uploaded again"
    ),
    Row(
        "upload-too-large",
        '413, or 400 "File is too large."',
        "the batch is split until it fits; a single request is answered",
    ),
    Row(
        "files-limit",
        "a list of files that takes few at a time, or keeps failing",
        "asked for as many as it takes; after three searches in vain the file is uploaded again",
    ),
    Row("uploads-per-minute", "more than 1,000 uploads a minute: 429", "waited for"),
    Row(
        "storage-full",
        "400: the file storage quota is full",
        "the account halts (`account.denied`) and goes on when there is room; finished files are deleted a day "
        "after publishing",
    ),
    Row("orphaned-uploads", "uploads that nobody refers to", "the janitor deletes them, its own deployment's alone"),
)

LIMITS = (
    Row(
        "limit-beside-given-up",
        "`token_limit_exceeded` while a batch that was given up may still hold tokens",
        "neither limit nor factor is learned from it; the batch goes again later",
    ),
    Row("limit-requests", "50,000 requests in a batch", "never more"),
    Row("limit-bytes", "200,000,000 bytes in a batch", "never more"),
    Row("limit-inputs", "50,000 embedding inputs in a batch", "never more; a request with more is a dead letter"),
    Row("limit-one-model", "one model and one endpoint in a batch", "a lane has one of each"),
    Row(
        "limit-tokens",
        "enqueued tokens of a model, configured",
        "never exceeded, across replicas; several batches share it",
    ),
    Row(
        "limit-tokens-unknown",
        "enqueued tokens of a model, not configured",
        "one batch at a time is validated at first, twice as many with each that gets past it; a refusal teaches",
    ),
    Row(
        "limit-validating",
        "a batch that stays in validation while no limit is known",
        "after 15 minutes it holds up no other of its model, and is reported",
    ),
    Row("limit-tokens-released", "tokens of a batch that failed or was given up", "released with its end, once"),
    Row(
        "limit-inputs-enqueued",
        "1,000,000 enqueued embedding inputs",
        "a refusal as any other: the batch goes again later",
    ),
    Row(
        "limit-custom-id",
        "`custom_id` of 64 characters `[A-Za-z0-9_-]`",
        "the provider sees ids of ours; any 512 bytes are taken",
    ),
)

WEBHOOKS = (
    Row("webhook-lost", "webhooks that never come", "polling finds the end"),
    Row("webhook-doubled", "webhooks twice, or out of order", "taken once; a status is never believed of them"),
    Row(
        "webhook-forged", "webhooks that are forged, unsigned, old, from the future or too large", "refused and counted"
    ),
    Row("webhook-lies", "a webhook of a batch that still runs", "looked at, and nothing changes"),
    Row("webhook-early", "a webhook before its batch is noted here", "remembered, and followed then"),
)
