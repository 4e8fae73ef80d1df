-- name: delete_answered
DELETE FROM answered;

-- name: insert_answered
INSERT INTO answered (topic_id, partition, incarnation, first, last)
SELECT topic_id, partition, incarnation, first, last
FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[])
    AS new (topic_id, partition, incarnation, first, last);

-- name: forget_positions
UPDATE batch SET next_position = 0 WHERE state = 'decided' AND next_position > 0;

-- name: halt_replaced
INSERT INTO position
    (kafka_cluster_id, topic_id, partition, topic, position, incarnation, halted_reason, halt_code, diverged_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'diverged', $8)
ON CONFLICT (kafka_cluster_id, topic_id, partition) DO UPDATE
SET incarnation = excluded.incarnation, halted_reason = excluded.halted_reason, halt_code = excluded.halt_code,
    diverged_at = excluded.diverged_at;

-- name: chunks_unsealed
SELECT id, taken, requests FROM chunk WHERE taken < requests ORDER BY id;

-- name: close_unsealed
UPDATE chunk AS c
SET taken = c.requests, left_bytes = 0, left_tokens = 0, left_inputs = 0,
    closed_at = CASE WHEN NOT EXISTS (
        SELECT FROM part AS p JOIN batch AS b ON b.id = p.batch_id WHERE p.chunk_id = c.id AND b.state <> 'published'
    ) THEN clock_timestamp() END
WHERE c.id = $1 AND c.taken = $2;

-- name: batches_uncreated
SELECT id FROM batch WHERE state IN ('sealed', 'creating') ORDER BY sealed_at, id;

-- name: settle_doubts
UPDATE intent SET settled_at = clock_timestamp(), outcome = 'absent' WHERE batch_id = $1 AND settled_at IS NULL;

-- name: adopt_intent
INSERT INTO intent (id, batch_id, account, settled_at, outcome, provider_batch_id)
VALUES ($1, $2, $3, clock_timestamp(), 'adopted', $4)
ON CONFLICT (id) DO UPDATE SET outcome = 'adopted', provider_batch_id = excluded.provider_batch_id;

-- name: adopt_file
UPDATE batch SET state = 'creating', file_id = $2 WHERE id = $1;

-- name: adopt_reservation
INSERT INTO reservation (batch_id, account, model, tokens) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING;
