-- name: server_facts
SELECT
    current_setting('server_version_num')::integer / 10000 AS major,
    current_setting('server_version') AS version,
    pg_is_in_recovery() AS in_recovery,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') AS fsync,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        AS connections;

-- name: running_processes
SELECT count(*) FROM replica WHERE seen_at > clock_timestamp() - interval '30 seconds';

-- name: count_without_epoch
SELECT count(*) FROM position
WHERE kafka_cluster_id = $1 AND topic = ANY ($2::text[]) AND halted_reason IS NULL
    AND (leader_epoch IS NULL OR leader_epoch_at IS DISTINCT FROM position);
