-- Expands what 0.1.0 has; its replicas go on beside this version's. What it alone used (lane.probing, batch_sealed) goes
-- with a later version.

-- Requests that are answered although what says so was lost with a restore, as spans of offsets (penstock resume restored).
CREATE TABLE answered (
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL CHECK (last >= first),
    PRIMARY KEY (topic_id, partition, first)
);

-- Since when a lane sends one small batch at a time, because the provider failed most of its last one.
ALTER TABLE lane ADD COLUMN probing_at timestamptz;

-- What an operator holds back until it is resumed. A lane goes by its model, its endpoint or its whole name.
CREATE TABLE pause (
    kind text NOT NULL CHECK (kind IN ('lane', 'account', 'topic')),
    name text NOT NULL,
    reason text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, name)
);

-- Lanes of which batches may be sealed and sent: neither halted nor paused.
CREATE VIEW lane_open AS
SELECT l.*
FROM lane AS l
WHERE l.halted_reason IS NULL AND NOT EXISTS (
    SELECT FROM pause AS p
    WHERE (p.kind = 'account' AND p.name = l.account)
        OR (p.kind = 'lane' AND p.name IN (
            l.model, l.endpoint, l.account || l.endpoint || ':' || l.model || '@' || l.completion_window
        ))
);

-- What operators did, until a replica has written it to the log.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action text NOT NULL,
    target text NOT NULL,
    detail jsonb NOT NULL,
    done_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Dead letters that operators sent again, a row for each Kafka transaction, announced before it is sent.
CREATE TABLE redrive (
    id uuid PRIMARY KEY,
    -- Of the dead-letter topic.
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    offsets bigint[] NOT NULL,
    -- Where the request topics ended before, by topic: an interrupted redrive looks from there for what it sent.
    ends jsonb NOT NULL,
    announced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz
);
CREATE INDEX redrive_partition ON redrive (topic_id, partition);

ALTER TABLE quota ADD COLUMN learned_at timestamptz;

-- Whose turn a chunk is to be sealed: priority 0 comes first; and the share that its tenants are hashed into. Tries of any
-- kind make the wait for the next one longer; `attempt` counts failures by its own fault.
ALTER TABLE chunk
    ADD COLUMN priority smallint NOT NULL DEFAULT 1,
    ADD COLUMN share smallint NOT NULL DEFAULT 0,
    ADD COLUMN tries smallint NOT NULL DEFAULT 0;
CREATE INDEX chunk_deadline ON chunk (deadline_at) WHERE taken < requests;

-- The priority is the first of its chunks'. An operator's `cancel` says what becomes of the requests that have no result.
ALTER TABLE batch
    ADD COLUMN priority smallint NOT NULL DEFAULT 1,
    ADD COLUMN cancel text CHECK (cancel IN ('answer', 'again'));
CREATE INDEX batch_claimable ON batch (priority, sealed_at) WHERE state = 'sealed';

-- Webhooks of the last minutes: a hint for the poller until it is taken, and the proof that one came before.
CREATE TABLE webhook (
    account text NOT NULL,
    id text NOT NULL,
    provider_batch_id text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_at timestamptz,
    PRIMARY KEY (account, id)
);
CREATE INDEX webhook_new ON webhook (account) WHERE taken_at IS NULL;
CREATE INDEX webhook_received ON webhook (received_at);
