-- name: lock_ring
SELECT turn, turns, turned_at < clock_timestamp() - make_interval(secs => $2) AS due FROM ring
WHERE name = $1 FOR UPDATE;

-- name: advance_ring
UPDATE ring SET turn = $2, turned_at = clock_timestamp() WHERE name = $1;

-- name: files_due
SELECT b.id, b.file_id, b.output_file_id, b.error_file_id, b.published_at
FROM batch AS b
JOIN lane AS l ON l.id = b.lane_id
WHERE l.account = $1 AND b.published_at < statement_timestamp() - make_interval(secs => $2) AND b.files_removed_at IS NULL
    AND b.published_at > coalesce($3, '-infinity'::timestamptz)
ORDER BY b.published_at
LIMIT 100;

-- name: forget_files
UPDATE batch SET files_removed_at = clock_timestamp()
WHERE published_at < statement_timestamp() - make_interval(secs => $1) AND files_removed_at IS NULL;

-- name: mark_files_removed
UPDATE batch SET files_removed_at = clock_timestamp() WHERE id = $1;

-- name: batches_named
SELECT id, state, file_id, provider_batch_id FROM batch WHERE id = ANY($1::uuid[]);

-- name: note_duplicates
UPDATE intent AS i SET provider_batch_id = d.provider_batch_id
FROM unnest($1::uuid[], $2::text[]) AS d (id, provider_batch_id), batch AS b
WHERE i.id = d.id AND b.id = i.batch_id AND i.outcome IN ('absent', 'refused') AND i.provider_batch_id IS NULL
RETURNING b.id, d.provider_batch_id, b.requests;

-- name: unpark
UPDATE batch SET parked_reason = NULL WHERE parked_reason IS NOT NULL AND state = 'decided';

-- name: delete_chunks
DELETE FROM chunk WHERE closed_at < statement_timestamp() - make_interval(secs => $1);

-- name: delete_batches
WITH gone AS (
    DELETE FROM batch AS b
    WHERE b.sealed_at < statement_timestamp() - make_interval(secs => $1) AND NOT b.provider_open
        AND (
            (b.state = 'published' AND b.ledger_cleared_at IS NOT NULL AND b.files_removed_at IS NOT NULL
                AND b.published_at < statement_timestamp() - make_interval(secs => $1))
            OR b.state = 'split'
        )
    RETURNING b.id
),
intents AS (DELETE FROM intent WHERE batch_id = ANY(ARRAY(SELECT id FROM gone)))
DELETE FROM lease WHERE name = ANY(ARRAY(SELECT 'batch/' || id FROM gone));

-- name: close_lanes
UPDATE lane AS l SET closed_at = clock_timestamp()
WHERE l.closed_at IS NULL AND l.halted_reason IS NULL AND l.account <> ''
    AND NOT EXISTS (SELECT FROM chunk AS c WHERE c.lane_id = l.id AND c.closed_at IS NULL)
    AND NOT EXISTS (
        SELECT FROM chunk AS c WHERE c.lane_id = l.id AND c.closed_at > statement_timestamp() - interval '10 minutes'
    );

-- name: delete_replicas
DELETE FROM replica WHERE seen_at < clock_timestamp() - interval '1 day';

-- name: delete_webhooks
DELETE FROM webhook WHERE received_at < statement_timestamp() - interval '15 minutes';
