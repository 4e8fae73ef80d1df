-- Expands what came before; replicas of the version before it go on beside this one.

-- An operator cancelled the batch after it had ended: what cannot be had of its files at the next try is given up.
ALTER TABLE batch ADD COLUMN files_given_up boolean NOT NULL DEFAULT false;
