-- name: insert_decision
INSERT INTO decision (id, batch_id, body) VALUES ($1, $2, $3);

-- name: move_to_decided
UPDATE batch SET state = 'decided', decision_id = $2, finals = $3, decided_at = clock_timestamp() WHERE id = $1;

-- name: read_decision
SELECT id, body FROM decision WHERE batch_id = $1;

-- name: revise_decision
UPDATE decision SET body = $2 WHERE batch_id = $1;

-- name: revise_finals
UPDATE batch SET finals = $2 WHERE id = $1;

-- name: learn_limit
INSERT INTO quota (account, model, learned_limit, learned_at, probing)
VALUES ($1, $2, $3, clock_timestamp(), $3::bigint IS NULL)
ON CONFLICT (account, model) DO UPDATE
SET learned_limit = coalesce(excluded.learned_limit, quota.learned_limit), learned_at = excluded.learned_at,
    probing = excluded.probing, validating_max = 1;

-- name: given_up_open
SELECT EXISTS (
    SELECT FROM batch AS b JOIN lane AS l ON l.id = b.lane_id
    WHERE b.provider_open AND b.abandoned_at IS NOT NULL AND l.account = $1 AND l.model = $2
);

-- name: read_quota
SELECT learned_limit, factor FROM quota WHERE account = $1 AND model = $2 FOR UPDATE;

-- name: stop_probing
UPDATE quota SET probing = false WHERE account = $1 AND model = $2 AND probing;

-- name: read_factor
SELECT factor FROM quota WHERE account = $1 AND model = $2;

-- name: store_factor
INSERT INTO quota (account, model, factor) VALUES ($1, $2, $3)
ON CONFLICT (account, model) DO UPDATE SET factor = excluded.factor;

-- name: halt_lane
UPDATE lane SET halted_reason = $2 WHERE id = $1;

-- name: set_probing
UPDATE lane SET probing_at = CASE WHEN $2 THEN coalesce(probing_at, clock_timestamp()) END
WHERE id = $1 AND (probing_at IS NOT NULL) <> $2;
