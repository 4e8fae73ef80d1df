-- name: unsettled_redrives
SELECT id, ends FROM redrive WHERE sent_at IS NULL ORDER BY announced_at;

-- name: redriven_offsets
SELECT offsets FROM redrive WHERE topic_id = $1 AND partition = $2 AND sent_at IS NOT NULL;

-- name: insert_redrive
INSERT INTO redrive (id, topic_id, partition, offsets, ends) VALUES ($1, $2, $3, $4::bigint[], $5::jsonb);

-- name: settle_redrive
UPDATE redrive SET sent_at = clock_timestamp() WHERE id = $1 AND sent_at IS NULL RETURNING cardinality(offsets);

-- name: delete_redrive
DELETE FROM redrive WHERE id = $1 AND sent_at IS NULL;

-- name: forget_redrives
DELETE FROM redrive
WHERE topic_id = $1 AND partition = $2 AND sent_at IS NOT NULL
    AND (SELECT max(sent) FROM unnest(offsets) AS o (sent)) < $3;
