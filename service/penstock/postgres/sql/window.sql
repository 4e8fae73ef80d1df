-- name: windows
SELECT
    c.lane_id, l.account, l.endpoint, l.model, l.completion_window, l.flush_requested_at,
    sum(c.requests - c.taken)::bigint AS requests, sum(c.left_bytes)::bigint AS bytes,
    sum(c.left_tokens)::bigint AS tokens, sum(c.left_inputs)::bigint AS inputs,
    extract(epoch FROM clock_timestamp() - min(greatest(c.created_at, c.not_before)))::double precision AS age_seconds,
    min(c.priority) AS priority, bool_or(c.created_at <= l.flush_requested_at) AS flush,
    q.learned_limit, coalesce(q.factor, 1.0) AS factor, l.probing_at IS NOT NULL AS probing,
    EXISTS (
        SELECT FROM batch AS b
        WHERE b.lane_id = l.id AND b.state IN ('sealed', 'creating', 'submitted', 'ended')
            AND b.sealed_at >= l.probing_at AND b.sealed_at > clock_timestamp() - make_interval(secs => $2)
    ) AS probe_running,
    EXISTS (
        SELECT FROM batch AS b
        WHERE b.lane_id = l.id AND b.state IN ('sealed', 'creating', 'submitted', 'ended')
            AND b.sealed_at >= l.probing_at AND b.sealed_at <= clock_timestamp() - make_interval(secs => $2)
    ) AS probe_overdue
FROM chunk AS c
JOIN lane_open AS l ON l.id = c.lane_id
LEFT JOIN quota AS q ON q.account = l.account AND q.model = l.model
WHERE c.taken < c.requests AND c.not_before <= clock_timestamp() AND c.format <= $1
GROUP BY c.lane_id, l.id, l.account, l.endpoint, l.model, l.completion_window, l.flush_requested_at, l.probing_at,
    q.account, q.model;

-- name: sealed_ahead
-- Reservations are searched batch by batch (see models_waiting).
SELECT l.account, l.model, b.priority, count(*) AS batches, sum(b.tokens)::bigint AS tokens
FROM batch AS b
JOIN lane_open AS l ON l.id = b.lane_id
WHERE b.state = 'sealed' AND b.not_before <= clock_timestamp() AND b.cancel IS NULL
    AND (SELECT true FROM reservation AS r WHERE r.batch_id = b.id) IS NULL
GROUP BY l.account, l.model, b.priority;

-- name: lock_lane
SELECT 1 FROM lane WHERE id = $1 FOR UPDATE;

-- name: unsealed_chunks
-- Of each share the oldest come first: however many chunks one has, the limit leaves some of every other.
SELECT
    id, taken, requests - taken AS requests, left_bytes, left_tokens, left_inputs, deadline_at, priority, share,
    extract(epoch FROM clock_timestamp() - greatest(created_at, not_before))::double precision AS age_seconds
FROM chunk
WHERE lane_id = $1 AND taken < requests AND not_before <= clock_timestamp() AND format <= $3
ORDER BY priority, row_number() OVER (PARTITION BY priority, share ORDER BY created_at, id), created_at, id
LIMIT $2;

-- name: overdue_lanes
SELECT DISTINCT l.id, l.account, l.endpoint, l.model, l.completion_window
FROM chunk AS c
JOIN lane AS l ON l.id = c.lane_id
WHERE c.taken < c.requests AND c.deadline_at <= statement_timestamp() AND c.format <= $1 AND l.account <> '';

-- name: overdue_chunks
SELECT
    id, taken, requests - taken AS requests, left_bytes, left_tokens, left_inputs, deadline_at, priority, share,
    0::double precision AS age_seconds
FROM chunk
WHERE lane_id = $1 AND taken < requests AND deadline_at <= statement_timestamp() AND format <= $3
ORDER BY created_at, id
LIMIT $2;

-- name: take_chunks
UPDATE chunk AS c
SET taken = c.taken + t.requests, left_bytes = c.left_bytes - t.bytes, left_tokens = c.left_tokens - t.tokens,
    left_inputs = c.left_inputs - t.inputs
FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS t (id, taken, requests, bytes, tokens, inputs)
WHERE c.id = t.id AND c.taken = t.taken;

-- name: insert_batch
INSERT INTO batch (
    id, lane_id, root_id, slot, seal_reason, requests, bytes, tokens, inputs, deadline_at, lines_lost,
    state, ended_at, verdict_code, verdict_message, sealed_at, priority,
    received_at, stored_at
)
SELECT
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
    CASE WHEN $12 THEN 'ended' ELSE 'sealed' END, CASE WHEN $12 THEN clock_timestamp() END, $13, $14,
    coalesce($15, clock_timestamp()), min(priority), min(coalesce(received_at, created_at)),
    min(coalesce(stored_at, created_at))
FROM chunk WHERE id = ANY($16::uuid[]);

-- name: insert_parts
INSERT INTO part (batch_id, ordinal, chunk_id, first, requests)
SELECT $1, ordinal, chunk_id, first, requests
FROM unnest($2::integer[], $3::uuid[], $4::integer[], $5::integer[]) AS p (ordinal, chunk_id, first, requests);

-- name: manifest_of
SELECT m.body FROM chunk AS c JOIN manifest AS m ON m.turn = c.manifest_turn AND m.chunk_id = c.id WHERE c.id = $1;

-- name: payload_of
SELECT p.lines FROM chunk AS c JOIN payload AS p ON p.turn = c.payload_turn AND p.chunk_id = c.id WHERE c.id = $1;

-- name: creates_pace
SELECT
    (SELECT count(*) FROM intent WHERE account = $1 AND intended_at > statement_timestamp() - interval '1 hour') AS used,
    -- Reservations are searched batch by batch (see models_waiting).
    (SELECT count(*) FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
     WHERE b.state = 'sealed' AND l.account = $1
         AND (SELECT true FROM reservation AS r WHERE r.batch_id = b.id)) AS waiting;

-- name: measure_backlog
SELECT topic, sum(stored_bytes)::bigint AS stored_bytes FROM chunk WHERE closed_at IS NULL GROUP BY topic;

-- name: record_backlog
INSERT INTO backlog (topic, stored_bytes, paused, measured_at)
SELECT m.topic, m.stored_bytes, m.stored_bytes > m.bytes_max * CASE WHEN b.paused THEN 0.8 ELSE 1 END, clock_timestamp()
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS m (topic, stored_bytes, bytes_max)
LEFT JOIN backlog AS b USING (topic)
ON CONFLICT (topic) DO UPDATE
SET stored_bytes = excluded.stored_bytes, paused = excluded.paused, measured_at = excluded.measured_at
RETURNING topic, stored_bytes, paused, EXISTS (SELECT FROM pause WHERE kind = 'topic' AND name = backlog.topic) AS held;

-- name: spending
SELECT l.account, l.endpoint, l.model, l.completion_window, s.today_usd, s.open_tokens, s.priced_usd, s.priced_tokens
FROM (
    SELECT
        b.lane_id,
        coalesce(sum(b.cost_usd) FILTER (WHERE b.sealed_at >= d.start), 0)::double precision AS today_usd,
        coalesce(sum(b.tokens) FILTER (
            WHERE b.sealed_at >= d.start AND b.cost_usd IS NULL AND b.verdict_code IS NULL
        ), 0)::bigint AS open_tokens,
        coalesce(sum(b.cost_usd), 0)::double precision AS priced_usd,
        coalesce(sum(b.tokens) FILTER (WHERE b.cost_usd > 0), 0)::bigint AS priced_tokens
    FROM batch AS b
    CROSS JOIN (SELECT date_trunc('day', statement_timestamp(), 'UTC') AS start) AS d
    WHERE b.sealed_at >= date_trunc('day', statement_timestamp(), 'UTC') - interval '1 day' AND b.state <> 'split'
    GROUP BY b.lane_id
) AS s
JOIN lane AS l ON l.id = s.lane_id
WHERE l.account <> '';
