-- name: batches_needed
-- Of which something is still to come from the provider: their ends, or their files.
(
    SELECT b.provider_batch_id FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
    WHERE b.provider_open AND l.account = $1
    ORDER BY b.submitted_at DESC LIMIT $2
)
UNION
(
    SELECT b.provider_batch_id FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
    WHERE b.state IN ('ended', 'decided') AND b.provider_batch_id IS NOT NULL AND b.abandoned_at IS NULL AND l.account = $1
    ORDER BY b.ended_at DESC LIMIT $2
);

-- name: batches_kept
-- Published, and the provider still has their files.
SELECT b.provider_batch_id FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
WHERE b.published_at IS NOT NULL AND b.files_removed_at IS NULL AND b.provider_batch_id IS NOT NULL AND l.account = $1
ORDER BY b.published_at DESC LIMIT $2;
