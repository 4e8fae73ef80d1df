-- Expands what came before; replicas of the version before it go on beside this one.

-- Records of a partition that are not stored yet, as the replica that reads it saw last, and since when a transaction that
-- its producer has neither committed nor aborted holds back the next of them.
ALTER TABLE position ADD COLUMN unread bigint, ADD COLUMN held_since timestamptz;
