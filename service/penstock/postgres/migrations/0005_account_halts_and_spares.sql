-- Expands what came before; replicas of the version before it go on beside this one.

-- Whether a create counts towards those that a window may have; null: it does if it made a batch.
ALTER TABLE intent ADD COLUMN counted boolean;

-- Accounts that the provider refuses, by the stage that met the refusal. One call is tried at growing intervals.
CREATE TABLE account_halt (
    account text NOT NULL,
    stage text NOT NULL CHECK (stage IN ('submitter', 'poller', 'publisher')),
    operation text NOT NULL,
    code text NOT NULL,
    detail text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 1,
    next_at timestamptz NOT NULL,
    PRIMARY KEY (account, stage)
);

-- How many batches of a model may be in the provider's validation at once while its token limit is not known.
ALTER TABLE quota ADD COLUMN validating_max integer NOT NULL DEFAULT 1 CHECK (validating_max >= 1);

-- Batches at the provider that execute requests of ours a second time: of a create taken as lost, or of one that was
-- doubled on its way. `executed` is counted once, when the batch has ended.
CREATE TABLE spare_batch (
    provider_batch_id text PRIMARY KEY,
    account text NOT NULL,
    batch_id uuid NOT NULL,
    requests integer NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    executed integer,
    CHECK ((ended_at IS NULL) = (executed IS NULL))
);
CREATE INDEX spare_batch_open ON spare_batch (account) WHERE ended_at IS NULL;
CREATE INDEX batch_file ON batch (file_id) WHERE file_id IS NOT NULL;
