-- name: bind_deployment
INSERT INTO deployment (id, kafka_cluster_id, ledger_topic_id, ledger_partitions) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING;

-- name: bound_deployments
SELECT id, kafka_cluster_id, ledger_topic_id, ledger_partitions FROM deployment;
