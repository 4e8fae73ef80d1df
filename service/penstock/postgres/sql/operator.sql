-- name: insert_pause
INSERT INTO pause (kind, name, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING name;

-- name: delete_pauses
DELETE FROM pause WHERE kind = $1 AND ($2::text IS NULL OR name = $2) RETURNING name;

-- name: release_held
DELETE FROM reservation AS r
USING batch AS b
WHERE b.id = r.batch_id AND b.state = 'sealed' AND NOT EXISTS (SELECT FROM lane_open AS l WHERE l.id = b.lane_id);

-- name: lanes_named
-- A lane can be closed before the first requests for which it was opened are stored.
SELECT l.account, l.endpoint, l.model, l.completion_window FROM lane AS l
WHERE (l.closed_at IS NULL OR EXISTS (SELECT FROM chunk AS c WHERE c.lane_id = l.id AND c.closed_at IS NULL))
    AND l.account <> '' AND CASE $1
    WHEN 'account' THEN account = $2
    ELSE $2 IN (model, endpoint, account || endpoint || ':' || model || '@' || completion_window)
END;

-- name: end_halts
UPDATE lane SET halted_reason = NULL
WHERE halted_reason IS NOT NULL AND (
    $1::text IS NULL OR $1 IN (model, endpoint, account || endpoint || ':' || model || '@' || completion_window)
)
RETURNING account || endpoint || ':' || model || '@' || completion_window AS name;

-- name: request_flush
UPDATE lane AS l SET flush_requested_at = clock_timestamp()
WHERE (l.closed_at IS NULL OR EXISTS (SELECT FROM chunk AS c WHERE c.lane_id = l.id AND c.closed_at IS NULL))
    AND l.account <> '' AND (
    $1::text IS NULL OR $1 IN (model, endpoint, account || endpoint || ':' || model || '@' || completion_window)
)
RETURNING account, endpoint, model, completion_window;

-- name: cancellable
SELECT b.id, b.state, b.requests, b.cancel, b.files_given_up, b.provider_batch_id, l.account, l.endpoint, l.model, l.completion_window
FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
WHERE (b.id::text LIKE $1 || '%' OR b.provider_batch_id = $1) AND l.account <> ''
LIMIT 2
FOR UPDATE OF b;

-- name: cancel_batch
UPDATE batch SET cancel = $2, cancel_asked_at = clock_timestamp(), files_given_up = state IN ('ended', 'decided')
WHERE id = $1;

-- name: insert_audit
INSERT INTO audit (action, target, detail) VALUES ($1, $2, $3::jsonb);

-- name: read_audit
SELECT id, action, target, detail, done_at FROM audit ORDER BY id LIMIT 100;

-- name: delete_audit
DELETE FROM audit WHERE id = ANY($1::bigint[]);
