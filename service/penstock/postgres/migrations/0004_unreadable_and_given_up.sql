-- Expands what 0003 has; replicas of the version before go on beside this one's.

-- How often the results of a chunk's requests came back and could not be read.
ALTER TABLE chunk ADD COLUMN unreadable smallint NOT NULL DEFAULT 0;

-- Since when an operator wants a batch to end; null for one that the version before was asked to cancel.
ALTER TABLE batch ADD COLUMN cancel_asked_at timestamptz;
