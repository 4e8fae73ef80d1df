-- name: insert_positions
INSERT INTO position (kafka_cluster_id, topic_id, partition, topic, position)
SELECT $1, topic_id, partition, topic, position
FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::bigint[]) AS new (topic_id, partition, topic, position)
ON CONFLICT DO NOTHING;

-- name: read_positions
SELECT
    p.topic_id, p.partition, p.position, p.halted_reason, p.acknowledged, p.halt_code, p.diverged_at, p.incarnation,
    CASE WHEN p.leader_epoch_at = p.position THEN p.leader_epoch END AS epoch
FROM position AS p
JOIN unnest($2::uuid[], $3::integer[]) AS mine (topic_id, partition) USING (topic_id, partition)
WHERE p.kafka_cluster_id = $1;

-- name: read_answered
SELECT topic_id, partition, incarnation, first, last FROM answered ORDER BY topic_id, partition, incarnation, first;

-- name: known_topics
SELECT DISTINCT topic_id FROM position WHERE kafka_cluster_id = $1;

-- name: lock_positions
SELECT p.topic_id, p.partition, p.position, p.incarnation
FROM position AS p
JOIN unnest($2::uuid[], $3::integer[]) AS mine (topic_id, partition) USING (topic_id, partition)
WHERE p.kafka_cluster_id = $1
ORDER BY p.topic_id, p.partition
FOR UPDATE OF p;

-- name: move_positions
UPDATE position AS p
SET position = new.position, leader_epoch = new.epoch, leader_epoch_at = new.position, held_since = NULL,
    unread = greatest(p.unread - (new.position - p.position), 0)
FROM unnest($2::uuid[], $3::integer[], $4::bigint[], $5::integer[]) AS new (topic_id, partition, position, epoch)
WHERE p.kafka_cluster_id = $1 AND p.topic_id = new.topic_id AND p.partition = new.partition;

-- name: take_epochs
UPDATE position AS p SET leader_epoch = new.epoch, leader_epoch_at = new.position
FROM unnest($2::uuid[], $3::integer[], $4::bigint[], $5::integer[]) AS new (topic_id, partition, position, epoch)
WHERE p.kafka_cluster_id = $1 AND p.topic_id = new.topic_id AND p.partition = new.partition
    AND p.position = new.position;

-- name: note_unread
-- Locked in the order in which those lock that store.
WITH locked AS (
    SELECT topic_id, partition FROM position
    WHERE kafka_cluster_id = $1 AND (topic_id, partition) IN (SELECT * FROM unnest($2::uuid[], $3::integer[]))
    ORDER BY topic_id, partition
    FOR UPDATE
)
UPDATE position AS p
SET unread = new.unread, held_since = CASE WHEN new.held THEN coalesce(p.held_since, clock_timestamp()) END
FROM unnest($2::uuid[], $3::integer[], $4::bigint[], $5::boolean[]) AS new (topic_id, partition, unread, held)
JOIN locked USING (topic_id, partition)
WHERE p.kafka_cluster_id = $1 AND p.topic_id = new.topic_id AND p.partition = new.partition
    AND (p.unread, p.held_since IS NOT NULL) IS DISTINCT FROM (new.unread, new.held);

-- name: halt_partition
UPDATE position SET halted_reason = $4, halt_code = $6, diverged_at = $7
WHERE kafka_cluster_id = $1 AND topic_id = $2 AND partition = $3 AND position <= $5 AND halted_reason IS NULL;

-- name: resume_partition
INSERT INTO position (kafka_cluster_id, topic_id, partition, topic, position, acknowledged)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (kafka_cluster_id, topic_id, partition) DO UPDATE
SET halted_reason = NULL, halt_code = NULL, diverged_at = NULL, position = excluded.position,
    acknowledged = excluded.acknowledged, leader_epoch = NULL, leader_epoch_at = excluded.position,
    incarnation = position.incarnation + CASE WHEN position.halt_code = 'diverged' THEN 1 ELSE 0 END;

-- name: read_lanes
SELECT l.id, l.account, l.endpoint, l.model, l.completion_window, l.closed_at IS NOT NULL AS closed
FROM lane AS l
JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS want (account, endpoint, model, completion_window)
    USING (account, endpoint, model, completion_window);

-- name: lock_lane_count
SELECT pg_advisory_xact_lock(hashtext('penstock.lanes'));

-- name: count_open_lanes
SELECT count(*) FROM lane WHERE closed_at IS NULL AND account <> '';

-- name: open_lane
INSERT INTO lane (account, endpoint, model, completion_window) VALUES ($1, $2, $3, $4)
ON CONFLICT (account, endpoint, model, completion_window) DO UPDATE SET closed_at = NULL
RETURNING id;

-- name: store_chunks
WITH new AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::bigint[], $3::text[], $4::smallint[], $5::smallint[], $6::smallint[], $7::smallint[],
        $8::integer[], $9::bigint[], $10::bigint[], $11::bigint[], $12::timestamptz[], $13::double precision[],
        $14::bytea[], $15::bytea[], $16::smallint[], $17::timestamptz[], $18::timestamptz[]
    ) AS new (
        id, lane_id, topic, priority, share, attempt, tries, requests, bytes, tokens, inputs, deadline_at,
        delay_seconds, lines, manifest, unreadable, received_at, stored_at
    )
),
lines AS (
    INSERT INTO payload (turn, chunk_id, lines)
    SELECT (SELECT turn FROM ring WHERE name = 'payload'), id, lines FROM new
),
manifests AS (
    INSERT INTO manifest (turn, chunk_id, body)
    SELECT (SELECT turn FROM ring WHERE name = 'manifest'), id, manifest FROM new
)
INSERT INTO chunk (
    id, format, lane_id, topic, priority, share, attempt, tries, requests, left_bytes, left_tokens, left_inputs,
    deadline_at, not_before, stored_bytes, payload_turn, manifest_turn, unreadable,
    received_at, stored_at
)
SELECT
    id, $19, lane_id, topic, priority, share, attempt, tries, requests, bytes, tokens, inputs, deadline_at,
    least(clock_timestamp() + make_interval(secs => delay_seconds), deadline_at), length(lines) + length(manifest),
    (SELECT turn FROM ring WHERE name = 'payload'), (SELECT turn FROM ring WHERE name = 'manifest'), unreadable,
    received_at, stored_at
FROM new;

-- name: paused_topics
SELECT topic FROM backlog WHERE paused
UNION
SELECT name FROM pause WHERE kind = 'topic';

-- name: database_clock
SELECT extract(epoch FROM clock_timestamp())::double precision;
