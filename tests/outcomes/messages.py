"""What producers may send, and how: bad messages, odd bodies, topics of every kind."""

from tests.outcomes.row import Row

LETTER = "a dead letter with its bytes, key and headers, once; its code and the mend are in its headers"
KEPT = "the provider gets it byte for byte"

BAD = (
    Row(
        "bad-value",
        "no value, no UTF-8, no JSON (NaN, a byte order mark, two objects, …), no object, a key twice, too deep: "
        "[each of them](reference/dead-letters.md)",
        LETTER,
    ),
    Row("bad-members", "`custom_id`, `url`, `method` or `body` that is missing or not as it must be", LETTER),
    Row("bad-body", "a body without a model, with a stream, without the input of embeddings", LETTER),
    Row("bad-size", "a body that is too large, more inputs than a batch takes, a model that is not configured", LETTER),
    Row(
        "bad-headers",
        "headers that are too many or too large, or ask for a topic, a deadline or a priority that there is not;"
        " a key that is too long",
        LETTER,
    ),
    Row("bad-lane", "more different models and endpoints than may wait (`lane_limit`)", LETTER),
)

BODIES = (
    Row(
        "body-pretty", "a body over several lines", "each line break becomes a blank, all else is kept: the same length"
    ),
    Row("body-escapes", "escaped line feeds, NULs and slashes", KEPT),
    Row("body-separators", "U+2028, U+2029 and U+0085 as they are", f"{KEPT}; only a line feed ends a line"),
    Row("body-surrogates", "escapes of lone surrogates", f"{KEPT}; what it says of them is its own affair"),
    Row("body-integers", "integers of 30 digits, and of 5,000", f"{KEPT}, every digit"),
    Row("body-floats", "1e400, -0.0, a fraction of 20 digits", KEPT),
    Row("body-order", "keys in any order, and white space anywhere", KEPT),
    Row("body-deep", "200 levels of objects and lists", KEPT),
)

TOPICS = (
    Row("duplicate-custom-ids", "two requests with the same custom_id in one window", "two answers"),
    Row("codecs", "topics in zstd, lz4, snappy and gzip, and mixtures of them", "all are read"),
    Row("aborted", "transactional producers that abort", "what they aborted is never read"),
    Row("offset-gaps", "offsets that no message has (the marks of transactions, what was aborted)", "passed over"),
    Row("wide-topic", "a topic of 1,000 partitions", "one replica reads them all"),
    Row(
        "partitions-added",
        "a topic that gets more partitions while it is read",
        "they are read from their first record",
    ),
)
