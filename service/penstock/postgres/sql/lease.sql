-- name: acquire_lease
INSERT INTO lease (name, epoch, holder, expires_at)
VALUES ($1, 1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE
SET epoch = lease.epoch + 1, holder = excluded.holder, expires_at = excluded.expires_at
WHERE lease.expires_at < clock_timestamp()
RETURNING epoch;

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
