"""What becomes of batches and of their lines at the provider."""

from tests.outcomes.row import Row

ENDS = (
    Row("completed", "`completed`", "each request's output line is its result"),
    Row(
        "failed-lines",
        "`completed`, some lines in the error file",
        "each position by its own line, of whichever file",
    ),
    Row("all-failed", "`completed`, all lines failed: `output_file_id` is null", "the error file is read alone"),
    Row("empty-error-file", "`completed`, an error file that is there and empty", "an empty file says nothing"),
    Row("empty-ids", "file ids that are empty strings", "they are taken as absent"),
    Row(
        "null-output",
        "`completed`, all file ids null, and counts that say otherwise",
        "counts are not believed; the batch is asked for again until `PENSTOCK_PUBLISHER_FILE_GONE_SECONDS` have "
        "passed, then its lines count as missing and go again",
    ),
    Row(
        "late-file-id",
        "an ended batch names a file seconds after its end",
        "while requests are missing and a file is not named, the batch is asked for again for "
        "`PENSTOCK_PUBLISHER_FILE_GONE_SECONDS`",
    ),
    Row(
        "file-size-unknown",
        "`files.retrieve` fails while the content is there",
        "the content is read; the spool's room is reserved by its announced length",
    ),
    Row(
        "file-size-wrong",
        "`files.retrieve` tells a wrong size, every time",
        "a file that the transport proves whole is believed when every request has its line, else when two downloads "
        "seconds apart agree; told once for each account (`sizes.wrong`)",
    ),
    Row(
        "vanished-file",
        "an output file that is named and not there (deleted, expired)",
        "it is asked for again as long; then its lines go again, counted as paid twice (`file_lost`)",
    ),
    Row(
        "expired",
        "`expired` with partial results",
        "what was finished is kept, the rest goes again as the same attempt",
    ),
    Row(
        "cancelled",
        "`cancelled` by somebody else, with partial results",
        "what was finished is kept, the rest goes again as the same attempt",
    ),
    Row(
        "cancelled-line-lost",
        "`cancelled`, a line that was counted as completed is in neither file",
        "it goes again",
    ),
    Row("skipped-status", "a batch that is over at the first poll", "statuses may be skipped"),
    Row(
        "unknown-status",
        "a status that nobody knows",
        "not the end: the batch is watched on; logged once (`status.unknown`), counted",
    ),
    Row(
        "status-spelling",
        "a status in another spelling or case (`Completed`, `canceled`, `in-progress`, `ended`), times as ISO 8601",
        "read as OpenAI's at the boundary",
    ),
    Row("status-back", "a status that goes back (late and stale answers)", "statuses only move forward"),
    Row("null-fields", "counts, usage and errors of null", "any field may be null"),
    Row("null-expiry", "`expires_at` of null", "overdue a completion window of its lane after it was submitted"),
    Row(
        "stuck-validating",
        "never leaves `validating`",
        "past its expiry and `PENSTOCK_POLLER_STUCK_GRACE_SECONDS` it is cancelled, and its requests go again",
    ),
    Row("stuck-in-progress", "never leaves `in_progress`", "cancelled likewise; what was done by then is kept"),
    Row("stuck-finalizing", "never leaves `finalizing`", "cancelled likewise"),
    Row(
        "stuck-cancelling",
        "never leaves `cancelling`",
        "past `PENSTOCK_POLLER_CANCEL_GRACE_SECONDS` it is given up here: its requests go again, counted as paid twice "
        "(`abandoned`); at the provider it is watched to its end, or for `PENSTOCK_POLLER_GIVEN_UP_SECONDS`; its "
        "tokens stay reserved for an hour, and its usage is counted as paid in vain",
    ),
    Row(
        "given-up-tokens",
        "batches that were given up and never end",
        "an hour later their tokens hold up no other; whether there is room is the provider's to say",
    ),
    Row(
        "cancel-refused",
        "a batch must end, and the provider does not take the cancel",
        "the cancel is sent again each round; past `PENSTOCK_POLLER_CANCEL_GRACE_SECONDS` it is given up here",
    ),
    Row(
        "account-refused-at-validation",
        "a batch fails at validation with a code about the account's money",
        "the account is halted, nothing is answered, and the batch goes again; no create is counted",
    ),
    Row(
        "list-never-moves",
        "the list shows statuses that are stale for good, while retrieve tells the truth",
        "a batch whose status does not move is retrieved every `PENSTOCK_POLLER_UNMOVED_SECONDS`; told once for each "
        "account (`list.stale`)",
    ),
    Row(
        "retrieve-never",
        "a batch of ours cannot be retrieved, in whatever way (a proxy turns 404 into 500)",
        "past its expiry and both graces, once it has failed for `PENSTOCK_POLLER_CANCEL_GRACE_SECONDS`, it is given "
        "up here and goes again; a day later when the account knows none of ours",
    ),
    Row(
        "cancel-lost",
        "`penstock cancel` of a batch that cannot be retrieved",
        "it is given up here after `PENSTOCK_POLLER_CANCEL_GRACE_SECONDS`, a day later when the account knows none of "
        "ours; `penstock status` says so",
    ),
    Row(
        "forgotten",
        "404 for a batch of ours for ever",
        "404 is no status: past its expiry and both graces it is given up here, and goes again; so it does when it had "
        "ended and its files are not known, after `PENSTOCK_PUBLISHER_FILE_GONE_SECONDS`",
    ),
)

LINES = (
    Row(
        "missing-line",
        "a line in neither file",
        "`completed` is no proof: the position goes again, counted as paid twice (`line_lost`)",
    ),
    Row("in-both-files", "a line in both files", "the success is the result"),
    Row("line-twice", "a line twice", "the first is the result; counted (`repeated`)"),
    Row("unknown-custom-id", "a custom_id that nobody sent", "left out; counted (`unknown`)"),
    Row("body-as-string", "`response.body` as a JSON string", "handed on as it is: results are the provider's lines"),
    Row(
        "line-odd-types",
        'members of unexpected types: `"error": "text"` beside a response, `"status_code": "200"`',
        "only what is needed is read; the line is the result, byte for byte",
    ),
    Row(
        "line-unreadable",
        "a line that names its request and cannot be read (cut, no UTF-8, `response` a list)",
        "the file is downloaded again; then the request goes again, and after "
        "`PENSTOCK_PUBLISHER_UNREADABLE_MAX` such results it gets the error `unreadable_result`, which names the file "
        "and the byte",
    ),
    Row(
        "line-nameless",
        "lines without a usable `custom_id` (null, a number, cut before it), as many as requests are missing",
        "what is missing counts as unreadable, likewise",
    ),
    Row("status-0", "`status_code` 0", "another try, as one of the request's attempts"),
    Row("line-429", "`status_code` 429", "another try after a growing wait, as one of the request's attempts"),
    Row("line-5xx", "`status_code` 5xx", "likewise; when most of a batch fails so, the lane sends small probes first"),
    Row(
        "probe-stuck",
        "the small probe of such a lane takes over an hour",
        "it holds nothing up any more, and is reported (`probe.overdue`); the next probe goes",
    ),
    Row("attempts-used-up", "429 or 5xx at every attempt", "the last error is the result"),
    Row("line-4xx", "`status_code` 400, 401, 403, 404 or 422", "the error is the result, at once"),
    Row(
        "unexecuted-line",
        "`batch_expired`, `batch_cancelled` or `request_timeout` with `response` null",
        "it was never executed: it goes again as the same attempt",
    ),
    Row("shuffled", "lines in any order", "results come in the order of the requests"),
)

VALIDATION = (
    Row(
        "refused-one-line",
        "a code with the number of one bad line",
        "its error is that request's result; the rest goes",
    ),
    Row("refused-three-lines", "three bad lines, named one after the other", "three results are errors; the rest goes"),
    Row(
        "refused-all-lines",
        "all 50,000 lines bad, named one after the other",
        "eight lines are lost one at a time, then the window is halved; after 64 creates the last code answers what is "
        "left: never 50,000 uploads",
    ),
    Row("code-invalid-json-line", "`invalid_json_line` with a line", "that request's result is the error"),
    Row(
        "code-invalid-json-line-null",
        "`invalid_json_line` without a line, or for more than eight lines of a window",
        "the fault is in what Penstock wrote: the lane halts loudly (`penstock resume lane`)",
    ),
    Row("code-duplicate-custom-id", "`duplicate_custom_id`", "wire ids are ours: the lane halts loudly"),
    Row("code-missing-required-parameter", "`missing_required_parameter`", "the error of that line alone"),
    Row("code-mismatched-model", "`mismatched_model`", "the error of that line alone"),
    Row("code-invalid-request", "`invalid_request` with a line (no model, …)", "the error of that line alone"),
    Row("code-streaming-unsupported", "`streaming_unsupported`", "the error of that line alone"),
    Row(
        "code-model-not-found",
        "`model_not_found`",
        "all lines share the model: it answers all of them, after one create",
    ),
    Row("code-invalid-url", "`invalid_url`, Azure's `url_mismatch`", "all lines share the url: it answers all of them"),
    Row("code-model-mismatch", "Azure's `model_mismatch`", "the error of the line it names"),
    Row("code-empty-file", "Azure's `empty_file`, `input_modified`", "the file is ours: the lane halts loudly"),
    Row(
        "code-nameless",
        "any other code without a line (Azure's `too_many_tasks`, `input_no_permissions`, …)",
        "the batch is sent again after a growing wait, from the second time on in a new file; at most 64 creates",
    ),
    Row(
        "code-token-limit-exceeded",
        "`token_limit_exceeded`, after the create succeeded",
        "nothing was executed: the limit is learned from its words, the batch is cut to it and sent again later",
    ),
    Row(
        "token-limit-unnamed",
        "`token_limit_exceeded` that names no limit",
        "one small batch at a time asks whether there is room",
    ),
    Row(
        "token-limit-single",
        "`token_limit_exceeded` for a single request that is larger than the limit",
        "the error is its result",
    ),
    Row(
        "cannot-find-file-async",
        '`invalid_request`, "Cannot find file", right after the upload',
        "the same file again, then a new upload",
    ),
)
