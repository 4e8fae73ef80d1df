-- name: end_sleepers
SELECT count(pg_terminate_backend(pid))
FROM pg_stat_activity
WHERE application_name = current_setting('application_name') AND application_name LIKE 'penstock-%'
    AND datname = current_database() AND state = 'active' AND wait_event IN ('ClientRead', 'ClientWrite')
    AND state_change < clock_timestamp() - make_interval(secs => $1);

-- name: last_heartbeat
SELECT seen_at FROM replica WHERE id = $1;

-- name: heartbeat
INSERT INTO replica (id, generation, lanes_sha256) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
RETURNING seen_at;

-- name: delete_heartbeat
DELETE FROM replica WHERE id = $1;

-- name: live_generations
SELECT max(generation) AS newest, count(DISTINCT lanes_sha256) AS variants FROM replica
WHERE seen_at > clock_timestamp() - interval '30 seconds';

-- name: waits
-- Of a batch the earliest deadline counts with the earliest storing: it never shows less than a request has used.
SELECT
    l.account, l.endpoint, l.model, l.completion_window, w.stage,
    sum(w.requests)::bigint AS requests, sum(w.bytes)::bigint AS bytes,
    extract(epoch FROM clock_timestamp() - min(w.received_at))::double precision AS oldest_age_seconds,
    extract(epoch FROM max(w.stored_at - w.received_at))::double precision AS unstored_seconds,
    max(
        extract(epoch FROM clock_timestamp() - w.stored_at) / greatest(extract(epoch FROM w.deadline_at - w.stored_at), 1)
    )::double precision AS deadline_ratio
FROM (
    SELECT
        lane_id, 'window' AS stage, requests - taken AS requests, left_bytes AS bytes, deadline_at,
        coalesce(received_at, created_at) AS received_at, coalesce(stored_at, created_at) AS stored_at
    FROM chunk WHERE taken < requests
    UNION ALL
    SELECT
        lane_id, CASE state WHEN 'creating' THEN 'sealed' ELSE state END, requests, bytes, deadline_at,
        coalesce(received_at, sealed_at), coalesce(stored_at, sealed_at)
    FROM batch WHERE state IN ('sealed', 'creating', 'submitted', 'ended')
    UNION ALL
    SELECT
        lane_id, 'ended', requests, bytes, deadline_at, coalesce(received_at, sealed_at), coalesce(stored_at, sealed_at)
    FROM batch WHERE state = 'decided'
) AS w
JOIN lane AS l ON l.id = w.lane_id
GROUP BY l.id, w.stage;

-- name: unknown_chunks
SELECT count(*) FROM chunk WHERE taken < requests AND format > $1;

-- name: count_pauses
SELECT kind, count(*) AS pauses, extract(epoch FROM clock_timestamp() - min(paused_at))::double precision AS age_seconds
FROM pause GROUP BY kind;

-- name: stopped
SELECT
    (SELECT count(*) FROM lane WHERE halted_reason IS NOT NULL) AS lanes_halted,
    (SELECT count(*) FROM batch WHERE state = 'decided' AND parked_reason IS NOT NULL) AS batches_parked;

-- name: quota_waits
SELECT l.account, l.endpoint, l.model, l.completion_window,
    extract(epoch FROM clock_timestamp() - min(b.sealed_at))::double precision AS age_seconds
FROM batch AS b
JOIN lane_open AS l ON l.id = b.lane_id
-- Reservations are searched batch by batch (see models_waiting).
WHERE b.state = 'sealed' AND b.not_before <= statement_timestamp()
    AND (SELECT true FROM reservation AS r WHERE r.batch_id = b.id) IS NULL
GROUP BY l.account, l.endpoint, l.model, l.completion_window;

-- name: file_ages
SELECT l.account, extract(epoch FROM clock_timestamp() - min(b.ended_at))::double precision AS age_seconds
FROM batch AS b
JOIN lane AS l ON l.id = b.lane_id
WHERE b.state IN ('ended', 'decided') AND (b.output_file_id IS NOT NULL OR b.error_file_id IS NOT NULL)
GROUP BY l.account;

-- name: uncollected_ages
SELECT l.account, extract(epoch FROM clock_timestamp() - min(b.ended_at))::double precision AS age_seconds
FROM batch AS b
JOIN lane AS l ON l.id = b.lane_id
WHERE b.state = 'ended' AND b.verdict_code IS NULL AND b.abandoned_at IS NULL AND b.provider_batch_id IS NOT NULL
GROUP BY l.account;

-- name: database_bytes
SELECT pg_database_size(current_database());

-- name: creates_by_account
SELECT a.account, (
    SELECT count(*) FROM intent AS i
    WHERE i.account = a.account AND i.intended_at > statement_timestamp() - interval '1 hour'
) AS creates
FROM unnest($1::text[]) AS a (account);

-- name: batch_states
SELECT state, count(*) AS batches FROM batch
WHERE state IN ('sealed', 'creating', 'submitted', 'ended') GROUP BY state
UNION ALL
SELECT state, count(*) FROM batch WHERE state = 'decided' GROUP BY state;

-- name: provider_statuses
SELECT provider_status AS status, count(*) AS batches FROM batch WHERE provider_open GROUP BY provider_status;

-- name: enqueued
SELECT l.account, l.endpoint, l.model, l.completion_window, sum(r.tokens)::bigint AS tokens, max(q.learned_limit) AS learned_limit
FROM reservation AS r
JOIN batch AS b ON b.id = r.batch_id
JOIN lane AS l ON l.id = b.lane_id
LEFT JOIN quota AS q ON q.account = l.account AND q.model = l.model
GROUP BY l.id;

-- name: in_doubt
SELECT count(*) AS creates,
    coalesce(extract(epoch FROM clock_timestamp() - min(i.intended_at)), 0)::double precision AS age_seconds
FROM intent AS i WHERE i.settled_at IS NULL;

-- name: actionable
SELECT l.account, w.stage, count(*) AS batches
FROM (
    SELECT b.lane_id, 'submitter' AS stage FROM batch AS b WHERE b.state = 'creating' AND NOT EXISTS (
        SELECT FROM intent AS i
        WHERE i.batch_id = b.id AND i.settled_at IS NULL
            AND i.looked_up_at > clock_timestamp() - make_interval(secs => $1)
    )
    UNION ALL
    SELECT b.lane_id, 'submitter' FROM batch AS b
    WHERE b.state = 'sealed' AND b.not_before <= clock_timestamp()
        AND EXISTS (SELECT FROM reservation AS r WHERE r.batch_id = b.id)
    UNION ALL
    SELECT lane_id, 'publisher' FROM batch WHERE state IN ('ended', 'decided') AND parked_reason IS NULL
) AS w
JOIN lane AS l ON l.id = w.lane_id
GROUP BY l.account, w.stage;

-- name: validating_late
SELECT l.account, count(*) AS batches
FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
WHERE b.provider_open AND b.provider_status = 'validating'
    AND b.submitted_at < clock_timestamp() - make_interval(secs => $1)
GROUP BY l.account;

-- name: totals
SELECT
    count(*) FILTER (WHERE state = 'published') AS batches_published,
    coalesce(sum(finals) FILTER (WHERE state = 'published'), 0)::bigint AS results,
    coalesce(sum(input_tokens), 0)::bigint AS input_tokens, coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
    coalesce(sum(cost_usd), 0)::double precision AS cost_usd,
    coalesce(sum(saving_usd), 0)::double precision AS saving_usd,
    coalesce(sum(input_tokens + output_tokens) FILTER (WHERE cost_usd IS NULL), 0)::bigint AS unpriced_tokens,
    coalesce(
        array_agg(DISTINCT l.model) FILTER (WHERE cost_usd IS NULL AND input_tokens + output_tokens > 0), '{}'
    ) AS unpriced_models
FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
WHERE sealed_at > statement_timestamp() - interval '1 day';

-- name: recent_batches
SELECT b.id, b.state, b.requests, b.bytes, b.seal_reason, b.sealed_at, b.submitted_at, b.ended_at, b.published_at,
    b.provider_batch_id, b.provider_status, b.parked_reason, b.finals, b.next_position, b.slot,
    b.verdict_code, l.account, l.endpoint, l.model, l.completion_window,
    b.cancel, b.cancel_asked_at, b.provider_open,
    extract(epoch FROM clock_timestamp() - b.cancel_asked_at)::double precision AS asked_seconds,
    extract(epoch FROM clock_timestamp() - b.cancel_requested_at)::double precision AS told_seconds,
    extract(epoch FROM clock_timestamp() - b.abandoned_at)::double precision AS given_up_seconds
FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
WHERE ($1::text IS NULL OR b.id::text LIKE $1 || '%' OR b.provider_batch_id = $1)
ORDER BY b.sealed_at DESC
LIMIT $2;

-- name: creates_of
SELECT id, intended_at, settled_at, outcome, provider_batch_id FROM intent WHERE batch_id = $1 ORDER BY intended_at;

-- name: parts_shown
SELECT p.ordinal, p.chunk_id, p.first, p.requests, c.topic, c.attempt
FROM part AS p LEFT JOIN chunk AS c ON c.id = p.chunk_id
WHERE p.batch_id = $1
ORDER BY p.ordinal;

-- name: backlogs
SELECT topic, stored_bytes, paused, measured_at FROM backlog ORDER BY topic;

-- name: unread
-- Of a topic that has been recreated, both are summed up: the old one's partitions are read no more.
SELECT
    topic, sum(unread)::bigint AS records, coalesce(sum(unread) FILTER (WHERE held_since IS NOT NULL), 0)::bigint AS held,
    min(held_since) AS held_since,
    (array_agg(partition ORDER BY held_since) FILTER (WHERE held_since IS NOT NULL))[1] AS held_partition
FROM position
WHERE unread > 0 AND halted_reason IS NULL
GROUP BY topic
ORDER BY topic;

-- name: halts
SELECT 'partition' AS kind, topic || ' ' || partition AS name, halted_reason AS reason, false AS paused
FROM position WHERE halted_reason IS NOT NULL
UNION ALL
SELECT 'lane', account || endpoint || ':' || model || '@' || completion_window, halted_reason, false
FROM lane WHERE halted_reason IS NOT NULL
UNION ALL
SELECT 'batch', id::text, parked_reason, false FROM batch WHERE parked_reason IS NOT NULL AND state = 'decided'
UNION ALL
SELECT 'account', account,
    format('%s: %s: %s; next try at %s UTC', operation, code, detail, to_char(next_at AT TIME ZONE 'UTC', 'HH24:MI:SS')),
    false
FROM account_halt
UNION ALL
SELECT kind, name, reason, true FROM pause
ORDER BY kind, name;

-- name: ending
-- What has to end: cancelled by an operator before it was sent or after, told to stop, or given up here.
SELECT b.id, b.state, l.account, b.provider_batch_id, b.provider_status, b.provider_open, b.cancel, b.requests,
    extract(epoch FROM clock_timestamp() - b.cancel_asked_at)::double precision AS asked_seconds,
    extract(epoch FROM clock_timestamp() - b.cancel_requested_at)::double precision AS told_seconds,
    extract(epoch FROM clock_timestamp() - b.abandoned_at)::double precision AS given_up_seconds
FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
WHERE (
        b.provider_open AND (b.cancel IS NOT NULL OR b.cancel_requested_at IS NOT NULL OR b.abandoned_at IS NOT NULL)
    ) OR (b.state IN ('sealed', 'creating') AND b.cancel IS NOT NULL) OR (b.state IN ('ended', 'decided') AND b.files_given_up)
ORDER BY b.submitted_at NULLS FIRST
LIMIT 20;

-- name: manifests_page
SELECT c.id, c.attempt, m.body
FROM chunk AS c JOIN manifest AS m ON m.turn = c.manifest_turn AND m.chunk_id = c.id
WHERE c.id > $1
ORDER BY c.id
LIMIT $2;

-- name: whereabouts
SELECT
    c.created_at, c.not_before, l.account, l.endpoint, l.model, l.completion_window,
    b.id AS batch_id, b.state, b.provider_batch_id, b.provider_status, b.sealed_at, b.published_at, b.next_position,
    (SELECT coalesce(sum(o.requests), 0) FROM part AS o WHERE o.batch_id = p.batch_id AND o.ordinal < p.ordinal)
        + $2 - p.first AS place,
    d.body AS decision, b.cancel, b.provider_open,
    extract(epoch FROM clock_timestamp() - b.cancel_asked_at)::double precision AS asked_seconds,
    extract(epoch FROM clock_timestamp() - b.cancel_requested_at)::double precision AS told_seconds,
    extract(epoch FROM clock_timestamp() - b.abandoned_at)::double precision AS given_up_seconds
FROM chunk AS c
JOIN lane AS l ON l.id = c.lane_id
LEFT JOIN part AS p ON p.chunk_id = c.id AND $2 >= p.first AND $2 < p.first + p.requests
LEFT JOIN batch AS b ON b.id = p.batch_id
LEFT JOIN decision AS d ON d.batch_id = b.id
WHERE c.id = $1;
