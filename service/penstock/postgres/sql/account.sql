-- name: batches_needed
-- Of which something is still to come from the provider: their ends, or their files.
(
    SELECT b.provider_batch_id FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
    WHERE b.provider_open AND l.account = $1
    ORDER BY b.submitted_at DESC LIMIT $2
)
UNION
(
    SELECT b.provider_batch_id FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
    WHERE b.state IN ('ended', 'decided') AND b.provider_batch_id IS NOT NULL AND b.abandoned_at IS NULL AND l.account = $1
    ORDER BY b.ended_at DESC LIMIT $2
);

-- name: batches_kept
-- Published, and the provider still has their files.
SELECT b.provider_batch_id FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
WHERE b.published_at IS NOT NULL AND b.files_removed_at IS NULL AND b.provider_batch_id IS NOT NULL AND l.account = $1
ORDER BY b.published_at DESC LIMIT $2;

-- name: halt_account
INSERT INTO account_halt (account, stage, operation, code, detail, next_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
ON CONFLICT (account, stage) DO UPDATE
SET operation = excluded.operation, code = excluded.code, detail = excluded.detail,
    next_at = greatest(account_halt.next_at, excluded.next_at);

-- name: take_try
-- One replica at a time: whoever comes second finds that the next try is not due.
UPDATE account_halt
SET tries = tries + 1,
    next_at = clock_timestamp() + make_interval(secs => least(15 * power(2, least(tries, 10)), 1800) * (0.75 + random() / 2))
WHERE account = $1 AND stage = $2 AND next_at <= clock_timestamp()
RETURNING true;

-- name: account_halted
SELECT true FROM account_halt WHERE account = $1 AND stage = $2;

-- name: end_account_halt
DELETE FROM account_halt WHERE account = $1 AND stage = $2;

-- name: try_accounts_now
UPDATE account_halt SET next_at = clock_timestamp() WHERE $1::text IS NULL OR account = $1 RETURNING account;
