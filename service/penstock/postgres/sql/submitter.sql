-- name: models_waiting
-- A scalar subquery is no join: the planner must not read all reservations anew for each batch, as it did when it took
-- them for few and a held snapshot kept those that had been there.
SELECT DISTINCT l.account, l.model
FROM batch AS b
JOIN lane_open AS l ON l.id = b.lane_id
WHERE b.state = 'sealed' AND b.not_before <= clock_timestamp() AND b.cancel IS NULL
    AND (SELECT true FROM reservation AS r WHERE r.batch_id = b.id) IS NULL;

-- name: insert_quota
INSERT INTO quota (account, model) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: lock_quota
SELECT
    CASE WHEN learned_at > clock_timestamp() - make_interval(secs => $3) THEN learned_limit END AS learned_limit,
    probing, factor, validating_max
FROM quota WHERE account = $1 AND model = $2 FOR UPDATE;

-- name: batches_waiting
SELECT b.id, b.tokens, b.requests, l.endpoint, l.completion_window
FROM batch AS b
JOIN lane_open AS l ON l.id = b.lane_id
WHERE b.state = 'sealed' AND l.account = $1 AND l.model = $2 AND b.not_before <= clock_timestamp() AND b.cancel IS NULL
    AND (SELECT true FROM reservation AS r WHERE r.batch_id = b.id) IS NULL
ORDER BY b.priority, b.sealed_at, b.id
LIMIT 100;

-- name: reserved
SELECT
    coalesce(sum(r.tokens), 0)::bigint AS tokens, count(*) AS batches,
    -- What is validated for too long holds up no other; it is reported.
    count(*) FILTER (
        WHERE coalesce(b.provider_status, 'validating') = 'validating'
            AND coalesce(b.submitted_at > clock_timestamp() - make_interval(secs => $3), true)
    )
        -- What was refused holds no tokens any more, but nothing is learned from it until it is collected.
        + (SELECT count(*) FROM batch AS f JOIN lane AS l ON l.id = f.lane_id
           WHERE f.state = 'ended' AND f.provider_status = 'failed' AND l.account = $1 AND l.model = $2) AS unproven
FROM reservation AS r
JOIN batch AS b ON b.id = r.batch_id
WHERE r.account = $1 AND r.model = $2
    -- What was given up an hour ago holds up no other: whether there is room is the provider's to say.
    AND coalesce(b.abandoned_at > clock_timestamp() - interval '1 hour', true);

-- name: insert_reservations
INSERT INTO reservation (batch_id, account, model, tokens)
SELECT batch_id, $1, $2, tokens FROM unnest($3::uuid[], $4::bigint[]) AS r (batch_id, tokens)
ON CONFLICT DO NOTHING;

-- name: delete_reservation
DELETE FROM reservation WHERE batch_id = ANY($1::uuid[]);

-- name: past_deadline
SELECT b.id
FROM batch AS b
LEFT JOIN lease AS l ON l.name = 'batch/' || b.id
WHERE b.state = 'sealed' AND b.deadline_at <= clock_timestamp() AND b.cancel IS NULL
    AND (l.expires_at IS NULL OR l.expires_at < clock_timestamp())
ORDER BY b.sealed_at
LIMIT 20;

-- name: withdrawn
SELECT b.id
FROM batch AS b
LEFT JOIN lease AS l ON l.name = 'batch/' || b.id
WHERE b.state = 'sealed' AND b.cancel IS NOT NULL AND (l.expires_at IS NULL OR l.expires_at < clock_timestamp())
ORDER BY b.sealed_at
LIMIT 20;

-- name: claimable_batch
-- While the account is halted, a sealed batch is only claimed when a try is due; look-ups of creates go on.
SELECT b.id, b.state, EXISTS (SELECT FROM account_halt AS h WHERE h.account = $1 AND h.stage = 'submitter') AS halted
FROM batch AS b
JOIN lane AS a ON a.id = b.lane_id
LEFT JOIN lease AS l ON l.name = 'batch/' || b.id
WHERE a.account = $1 AND (l.expires_at IS NULL OR l.expires_at < clock_timestamp())
    AND (
        b.state = 'creating'
        OR (
            b.state = 'sealed' AND b.not_before <= clock_timestamp() AND b.deadline_at > clock_timestamp()
            AND b.cancel IS NULL
            AND EXISTS (SELECT FROM reservation AS r WHERE r.batch_id = b.id)
            AND NOT EXISTS (
                SELECT FROM account_halt AS h
                WHERE h.account = $1 AND h.stage = 'submitter' AND h.next_at > clock_timestamp()
            )
        )
    )
    AND b.state IN ('sealed', 'creating')
    AND NOT EXISTS (
        SELECT FROM intent AS i
        WHERE i.batch_id = b.id AND i.settled_at IS NULL
            AND i.looked_up_at > clock_timestamp() - make_interval(secs => $2)
    )
ORDER BY b.priority, b.sealed_at
LIMIT 1
FOR UPDATE OF b SKIP LOCKED;

-- name: load_batch
SELECT
    b.id, b.lane_id, b.root_id, b.state, b.slot, b.requests, b.bytes, b.tokens, b.inputs, b.lines_lost, b.refusals,
    b.file_id, b.provider_batch_id, b.provider_status, b.provider_errors, b.output_file_id, b.error_file_id,
    b.input_tokens, b.output_tokens, b.cancel, b.files_given_up, b.abandoned_at IS NOT NULL AS abandoned, b.verdict_code, b.verdict_message,
    b.decision_id, b.finals, b.next_position, b.sealed_at, b.submitted_at, b.ended_at, b.decided_at, b.deadline_at,
    b.cost_usd, b.saving_usd, l.account, l.endpoint, l.model, l.completion_window,
    (SELECT count(*) FROM intent AS i JOIN batch AS f ON f.id = i.batch_id
     WHERE f.root_id = b.root_id AND coalesce(i.counted, coalesce(i.outcome, 'landed') IN ('landed', 'adopted')))
        AS creates,
    (SELECT count(*) FROM intent AS i
     WHERE i.batch_id = b.id AND coalesce(i.outcome, 'landed') IN ('landed', 'adopted')) AS own_creates
FROM batch AS b
JOIN lane AS l ON l.id = b.lane_id
WHERE b.id = $1;

-- name: parts_of
SELECT p.chunk_id, p.first, p.requests, c.attempt, c.tries, c.unreadable, c.topic, c.priority, c.share,
    extract(epoch FROM coalesce(c.stored_at, c.created_at))::double precision AS stored
FROM part AS p JOIN chunk AS c ON c.id = p.chunk_id
WHERE p.batch_id = $1 ORDER BY p.ordinal;

-- name: lock_batch
SELECT 1 FROM batch WHERE id = $1 AND state = $2 FOR UPDATE;

-- name: store_file
UPDATE batch SET file_id = $2 WHERE id = $1;

-- name: lock_creates
SELECT pg_advisory_xact_lock(hashtext('penstock.creates/' || $1));

-- name: may_start
SELECT b.deadline_at > clock_timestamp() AND b.cancel IS NULL
    AND EXISTS (SELECT FROM lane_open AS l WHERE l.id = b.lane_id)
FROM batch AS b WHERE b.id = $1;

-- name: count_creates
SELECT count(*) FROM intent WHERE account = $1 AND intended_at > statement_timestamp() - interval '1 hour';

-- name: insert_intent
INSERT INTO intent (id, batch_id, account) VALUES ($1, $2, $3);

-- name: move_to_creating
UPDATE batch SET state = 'creating' WHERE id = $1;

-- name: doubt_of
SELECT
    id, intended_at,
    extract(epoch FROM clock_timestamp() - intended_at)::double precision AS age_seconds
FROM intent WHERE batch_id = $1 AND settled_at IS NULL ORDER BY intended_at;

-- name: mark_looked_up
UPDATE intent SET looked_up_at = clock_timestamp() WHERE batch_id = $1 AND settled_at IS NULL;

-- name: settle_intent
UPDATE intent SET settled_at = clock_timestamp(), outcome = $2, provider_batch_id = $3, counted = $4
WHERE id = $1 AND settled_at IS NULL;

-- name: move_to_submitted
UPDATE batch
SET state = 'submitted', provider_batch_id = $2, provider_status = $3, provider_created_at = $4, expires_at = $5,
    provider_open = true, submitted_at = clock_timestamp()
WHERE id = $1;

-- name: move_to_sealed
UPDATE batch
SET state = 'sealed', not_before = clock_timestamp() + make_interval(secs => $2), refusals = refusals + $3,
    file_id = CASE WHEN $4 THEN NULL ELSE file_id END, provider_batch_id = NULL, provider_status = NULL,
    output_file_id = NULL, error_file_id = NULL, cancel_requested_at = NULL,
    provider_errors = NULL, provider_created_at = NULL, expires_at = NULL, submitted_at = NULL, ended_at = NULL,
    cost_usd = NULL, saving_usd = NULL
WHERE id = $1;

-- name: correct_deadline
UPDATE batch SET deadline_at = $2 WHERE id = $1;

-- name: move_to_split
UPDATE batch SET state = 'split' WHERE id = $1;

-- name: delete_parts
DELETE FROM part WHERE batch_id = $1;

-- name: inherit_cancel
UPDATE batch AS c SET cancel = p.cancel, cancel_asked_at = p.cancel_asked_at
FROM batch AS p
WHERE p.id = $1 AND p.cancel IS NOT NULL AND c.id = ANY($2::uuid[]) AND c.state = 'sealed';

-- name: move_to_ended
UPDATE batch SET state = 'ended', ended_at = clock_timestamp(), verdict_code = $2, verdict_message = $3
WHERE id = $1;

-- name: exempt_create
UPDATE intent SET counted = false WHERE batch_id = $1 AND provider_batch_id = $2;

-- name: made_by_creates
-- The provider's batches that creates of a batch are known to have made.
SELECT provider_batch_id FROM intent WHERE batch_id = $1 AND provider_batch_id IS NOT NULL
UNION
SELECT provider_batch_id FROM spare_batch WHERE batch_id = $1;

-- name: move_to_withdrawn
-- Without an answer it is closed as one that is given up: nothing of it is collected, its requests go again.
UPDATE batch
SET state = 'ended', ended_at = clock_timestamp(),
    verdict_code = CASE WHEN cancel = 'answer' THEN $2 END, verdict_message = CASE WHEN cancel = 'answer' THEN $3 END,
    abandoned_at = CASE WHEN cancel = 'again' THEN clock_timestamp() END
WHERE id = $1;

-- name: raise_validating_max
-- Each batch that gets past the provider's validation lets twice as many of its model be validated at once.
UPDATE quota AS q SET validating_max = least(q.validating_max::bigint << passed.batches, 1024)
FROM (
    SELECT l.account, l.model, least(count(*), 10)::integer AS batches
    FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
    WHERE b.id = ANY($1::uuid[])
    GROUP BY l.account, l.model
) AS passed
WHERE q.account = passed.account AND q.model = passed.model AND q.validating_max < 1024;
