-- name: slots_with_work
SELECT slot, min(ended_at) AS since FROM batch
WHERE state IN ('ended', 'decided') AND parked_reason IS NULL
GROUP BY slot
UNION ALL
SELECT slot, min(published_at) FROM batch
WHERE published_at IS NOT NULL AND ledger_cleared_at IS NULL
    AND published_at < statement_timestamp() - make_interval(secs => $1)
GROUP BY slot
ORDER BY since;

-- name: slot_batches
SELECT id FROM batch
WHERE slot = $1 AND state IN ('ended', 'decided') AND parked_reason IS NULL
ORDER BY ended_at, id;

-- name: batches_of_ledger
SELECT id, state, decision_id FROM batch WHERE id = ANY($1::uuid[]);

-- name: ledger_expected
SELECT id, next_position FROM batch
WHERE slot = $1 AND next_position > 0 AND ledger_cleared_at IS NULL
    AND (published_at IS NULL OR published_at > statement_timestamp() - make_interval(secs => $2));

-- name: record_position
UPDATE batch SET next_position = greatest(next_position, $2) WHERE id = $1 AND state = 'decided';

-- name: lock_chunks
SELECT 1 FROM chunk WHERE id IN (SELECT chunk_id FROM part WHERE batch_id = $1) ORDER BY id FOR UPDATE;

-- name: move_to_published
UPDATE batch SET state = 'published', published_at = clock_timestamp(), next_position = greatest(next_position, $3),
    files_removed_at = CASE WHEN file_id IS NULL OR $2 THEN clock_timestamp() END,
    ledger_cleared_at = CASE WHEN greatest(next_position, $3) = 0 THEN clock_timestamp() END
WHERE id = $1;

-- name: close_chunks
UPDATE chunk AS c SET closed_at = clock_timestamp()
WHERE c.id IN (SELECT chunk_id FROM part WHERE batch_id = $1)
    AND c.taken = c.requests AND c.closed_at IS NULL
    AND NOT EXISTS (
        SELECT FROM part AS p JOIN batch AS b ON b.id = p.batch_id
        WHERE p.chunk_id = c.id AND b.state <> 'published'
    );

-- name: park_batch
UPDATE batch SET parked_reason = $2 WHERE id = $1;

-- name: ledger_keys_due
SELECT id FROM batch
WHERE slot = $1 AND published_at IS NOT NULL AND ledger_cleared_at IS NULL
    AND published_at < statement_timestamp() - make_interval(secs => $2)
LIMIT 1000;

-- name: mark_ledger_cleared
UPDATE batch SET ledger_cleared_at = clock_timestamp() WHERE id = ANY($1::uuid[]);
