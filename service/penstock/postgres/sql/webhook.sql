-- name: note_webhook
INSERT INTO webhook (account, id, provider_batch_id) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING id;
