-- Expands what 0.2.0 has; its replicas go on beside this version's.

-- The leader epoch that a position was read under. It counts only while leader_epoch_at is the position: a replica of
-- 0.2.0 moves the position and leaves the epoch as it was. A log that loses records ends the epoch before the position.
ALTER TABLE position
    ADD COLUMN leader_epoch integer,
    ADD COLUMN leader_epoch_at bigint,
    -- Why the partition is halted, where code decides by it; the words are in halted_reason.
    ADD COLUMN halt_code text CHECK (halt_code IN ('diverged')),
    -- The first offset that was replaced; NULL when the brokers do not know it.
    ADD COLUMN diverged_at bigint,
    -- How often the partition was resumed after its log had been replaced: its offsets may name other messages now.
    ADD COLUMN incarnation integer NOT NULL DEFAULT 0;

-- A replica of 0.2.0 knows no incarnations: it would give the results of the new messages the ids of the lost ones.
CREATE FUNCTION position_incarnation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'partition % of % is in incarnation %: only Penstock 0.3 or later may move its position',
        OLD.partition, OLD.topic, OLD.incarnation USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER position_incarnation BEFORE UPDATE OF position ON position
    FOR EACH ROW WHEN (OLD.incarnation > 0 AND NEW.leader_epoch_at IS DISTINCT FROM NEW.position)
    EXECUTE FUNCTION position_incarnation();

ALTER TABLE answered ADD COLUMN incarnation integer NOT NULL DEFAULT 0;
ALTER TABLE answered DROP CONSTRAINT answered_pkey;
ALTER TABLE answered ADD PRIMARY KEY (topic_id, partition, incarnation, first);
