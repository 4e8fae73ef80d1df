-- name: watched_batches
SELECT
    b.id, b.provider_batch_id, b.provider_status, b.submitted_at, b.expires_at, b.cancel_requested_at, b.cancel,
    b.abandoned_at IS NOT NULL AS abandoned, b.requests, l.endpoint, l.model, l.account, l.completion_window,
    extract(epoch FROM clock_timestamp() - b.submitted_at)::double precision AS age_seconds,
    extract(epoch FROM clock_timestamp() - b.expires_at)::double precision AS overdue_seconds,
    extract(epoch FROM clock_timestamp() - b.cancel_requested_at)::double precision AS cancelling_seconds,
    extract(epoch FROM clock_timestamp() - b.cancel_asked_at)::double precision AS cancel_asked_seconds,
    extract(epoch FROM clock_timestamp() - b.abandoned_at)::double precision AS abandoned_seconds
FROM batch AS b
JOIN lane AS l ON l.id = b.lane_id
WHERE b.provider_open AND l.account = $1
ORDER BY b.submitted_at;

-- name: record_status
UPDATE batch
SET provider_status = $3, expires_at = coalesce($4, expires_at), output_file_id = coalesce($5, output_file_id),
    error_file_id = coalesce($6, error_file_id), provider_errors = coalesce($7::jsonb, provider_errors),
    input_tokens = greatest(input_tokens, $8), output_tokens = greatest(output_tokens, $9),
    cost_usd = coalesce($10, cost_usd), saving_usd = coalesce($11, saving_usd)
WHERE id = $1 AND provider_status = $2 AND provider_open
RETURNING id;

-- name: record_end
UPDATE batch
SET provider_open = false, state = CASE WHEN state = 'submitted' THEN 'ended' ELSE state END,
    ended_at = coalesce(ended_at, clock_timestamp())
WHERE id = $1 AND provider_open
RETURNING id;

-- name: request_cancel
UPDATE batch SET cancel_requested_at = clock_timestamp()
WHERE id = $1 AND provider_open AND cancel_requested_at IS NULL;

-- name: abandon
UPDATE batch SET state = 'ended', abandoned_at = clock_timestamp(), ended_at = clock_timestamp()
WHERE id = $1 AND state = 'submitted';

-- name: take_hints
UPDATE webhook AS w SET taken_at = clock_timestamp()
FROM batch AS b
WHERE w.account = $1 AND w.taken_at IS NULL AND b.provider_batch_id = w.provider_batch_id AND b.provider_open
RETURNING w.provider_batch_id;
