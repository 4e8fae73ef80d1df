-- Expands what came before; replicas of the version before it go on beside this one.

-- When the oldest of the requests was written to Kafka, and when it was stored first: what is sent again, sealed or split
-- keeps both. Null in rows of the version before: created_at and sealed_at stand for them.
ALTER TABLE chunk ADD COLUMN received_at timestamptz, ADD COLUMN stored_at timestamptz;
ALTER TABLE batch ADD COLUMN received_at timestamptz, ADD COLUMN stored_at timestamptz;
