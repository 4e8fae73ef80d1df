-- name: acquire_lease
-- One that is locked has a holder at work: waiting for the end of its transaction would hold up what the caller holds.
WITH free AS (
    SELECT name FROM lease WHERE name = $1 AND expires_at < clock_timestamp() FOR UPDATE SKIP LOCKED
),
taken AS (
    UPDATE lease AS l SET epoch = l.epoch + 1, holder = $2, expires_at = clock_timestamp() + make_interval(secs => $3)
    FROM free WHERE l.name = free.name
    RETURNING l.epoch
),
made AS (
    INSERT INTO lease (name, epoch, holder, expires_at)
    SELECT $1, 1, $2, clock_timestamp() + make_interval(secs => $3)
    WHERE NOT EXISTS (SELECT FROM lease WHERE name = $1)
    ON CONFLICT (name) DO NOTHING
    RETURNING epoch
)
SELECT epoch FROM taken UNION ALL SELECT epoch FROM made;

-- name: renew_leases
WITH mine AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS mine (name, epoch)),
free AS (
    SELECT l.name FROM lease AS l JOIN mine USING (name, epoch)
    WHERE l.expires_at > '-infinity'
    FOR UPDATE OF l SKIP LOCKED
),
renewed AS (
    UPDATE lease AS l SET expires_at = clock_timestamp() + make_interval(secs => $3)
    FROM free WHERE l.name = free.name
    RETURNING l.name
)
SELECT l.name, l.name IN (SELECT name FROM renewed) AS renewed
FROM lease AS l JOIN mine USING (name, epoch)
WHERE l.expires_at > '-infinity';

-- name: release_lease
UPDATE lease SET expires_at = '-infinity' WHERE name = $1 AND epoch = $2;

-- name: guard_lease
SELECT 1 FROM lease WHERE name = $1 AND epoch = $2 AND expires_at > '-infinity' FOR UPDATE;
