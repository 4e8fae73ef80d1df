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

-- name: note_spares
-- Of batches seen at the provider, those that execute a batch's requests a second time: the create that made one is
-- taken as lost, or known to have made another one; without metadata, the input file names the batch. While a create of
-- the batch is in doubt nothing is said of it.
WITH seen AS (
    SELECT * FROM unnest($2::text[], $3::uuid[], $4::text[]) AS s (provider_batch_id, create_id, file_id)
),
spare AS (
    SELECT s.provider_batch_id, b.id AS batch_id, b.requests
    FROM seen AS s JOIN intent AS i ON i.id = s.create_id JOIN batch AS b ON b.id = i.batch_id
    WHERE i.settled_at IS NOT NULL AND i.provider_batch_id IS DISTINCT FROM s.provider_batch_id
    UNION ALL
    SELECT s.provider_batch_id, b.id, b.requests
    FROM seen AS s JOIN batch AS b ON b.file_id = s.file_id
    WHERE s.create_id IS NULL AND NOT EXISTS (
        SELECT FROM intent AS i
        WHERE i.batch_id = b.id AND (i.settled_at IS NULL OR i.provider_batch_id = s.provider_batch_id)
    )
)
INSERT INTO spare_batch (provider_batch_id, account, batch_id, requests)
SELECT DISTINCT ON (provider_batch_id) provider_batch_id, $1, batch_id, requests FROM spare
ON CONFLICT DO NOTHING
RETURNING provider_batch_id, batch_id, requests;

-- name: open_spares
SELECT provider_batch_id, batch_id, requests FROM spare_batch WHERE account = $1 AND ended_at IS NULL
ORDER BY found_at LIMIT 100;

-- name: end_spare
UPDATE spare_batch SET ended_at = clock_timestamp(), executed = $2
WHERE provider_batch_id = $1 AND ended_at IS NULL;

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

-- name: delete_spares
DELETE FROM spare_batch AS s
WHERE s.ended_at < statement_timestamp() - make_interval(secs => $1) AND NOT EXISTS (SELECT FROM batch AS b WHERE b.id = s.batch_id);

-- name: delete_replicas
DELETE FROM replica WHERE seen_at < clock_timestamp() - interval '1 day';

-- name: delete_webhooks
DELETE FROM webhook WHERE received_at < statement_timestamp() - interval '15 minutes';
