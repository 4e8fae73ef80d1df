-- The first schema. Words are those of docs/design.md.
-- State lives in narrow tables of its own; payload and manifests are insert-only rings, emptied by TRUNCATE.

CREATE TABLE deployment (
    id text PRIMARY KEY,
    kafka_cluster_id text NOT NULL,
    ledger_topic_id uuid NOT NULL,
    ledger_partitions integer NOT NULL
);

-- Each lane configuration that replicas bring; the highest generation is in force.
CREATE TABLE replica (
    id uuid PRIMARY KEY,
    generation integer NOT NULL,
    lanes_sha256 bytea NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE lease (
    name text PRIMARY KEY,
    epoch bigint NOT NULL,
    holder uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE position (
    kafka_cluster_id text NOT NULL,
    topic_id uuid NOT NULL,
    partition integer NOT NULL,
    topic text NOT NULL,
    position bigint NOT NULL CHECK (position >= 0),
    halted_reason text,
    -- What the consumer group had committed when an operator last resumed the partition.
    acknowledged bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (kafka_cluster_id, topic_id, partition)
);

CREATE TABLE lane (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account text NOT NULL,
    endpoint text NOT NULL,
    model text NOT NULL,
    completion_window text NOT NULL,
    closed_at timestamptz,
    halted_reason text,
    probing boolean NOT NULL DEFAULT false,
    flush_requested_at timestamptz,
    UNIQUE (account, endpoint, model, completion_window)
);

-- What is known of a model's enqueued-token limit and of what a nominal token really costs.
CREATE TABLE quota (
    account text NOT NULL,
    model text NOT NULL,
    learned_limit bigint,
    probing boolean NOT NULL DEFAULT false,
    factor double precision NOT NULL DEFAULT 1.0,
    PRIMARY KEY (account, model)
);

CREATE TABLE chunk (
    id uuid PRIMARY KEY,
    lane_id bigint NOT NULL,
    format smallint NOT NULL,
    topic text NOT NULL,
    attempt smallint NOT NULL,
    requests integer NOT NULL,
    taken integer NOT NULL DEFAULT 0,
    left_bytes bigint NOT NULL,
    left_tokens bigint NOT NULL,
    left_inputs bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    payload_turn smallint NOT NULL,
    manifest_turn smallint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    deadline_at timestamptz NOT NULL,
    closed_at timestamptz,
    CHECK (taken BETWEEN 0 AND requests)
);
CREATE INDEX chunk_unsealed ON chunk (lane_id, created_at) WHERE taken < requests;
CREATE INDEX chunk_open ON chunk (topic) INCLUDE (stored_bytes, payload_turn, lane_id) WHERE closed_at IS NULL;
CREATE INDEX chunk_closed ON chunk (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX chunk_payload_turn ON chunk (payload_turn) WHERE closed_at IS NULL;
CREATE INDEX chunk_manifest_turn ON chunk (manifest_turn);

CREATE TABLE batch (
    id uuid PRIMARY KEY,
    lane_id bigint NOT NULL REFERENCES lane,
    root_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'sealed'
        CHECK (state IN ('sealed', 'creating', 'submitted', 'ended', 'decided', 'published', 'split')),
    slot integer NOT NULL,
    seal_reason text NOT NULL,
    requests integer NOT NULL CHECK (requests > 0),
    bytes bigint NOT NULL,
    tokens bigint NOT NULL,
    inputs bigint NOT NULL,
    lines_lost smallint NOT NULL DEFAULT 0,
    refusals smallint NOT NULL DEFAULT 0,
    sealed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    deadline_at timestamptz NOT NULL,
    file_id text,
    provider_batch_id text,
    provider_status text,
    provider_open boolean NOT NULL DEFAULT false,
    provider_errors jsonb,
    provider_created_at timestamptz,
    expires_at timestamptz,
    output_file_id text,
    error_file_id text,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost_usd numeric,
    saving_usd numeric,
    cancel_requested_at timestamptz,
    abandoned_at timestamptz,
    verdict_code text,
    verdict_message text,
    submitted_at timestamptz,
    ended_at timestamptz,
    decision_id uuid,
    finals integer,
    decided_at timestamptz,
    next_position integer NOT NULL DEFAULT 0,
    parked_reason text,
    published_at timestamptz,
    files_removed_at timestamptz,
    ledger_cleared_at timestamptz,
    CHECK (state <> 'creating' OR file_id IS NOT NULL),
    CHECK (state <> 'submitted' OR (provider_batch_id IS NOT NULL AND submitted_at IS NOT NULL)),
    CHECK (state NOT IN ('ended', 'decided', 'published') OR ended_at IS NOT NULL),
    CHECK (state NOT IN ('decided', 'published') OR (decision_id IS NOT NULL AND decided_at IS NOT NULL)),
    CHECK ((state = 'published') = (published_at IS NOT NULL)),
    CHECK (next_position BETWEEN 0 AND requests)
);
-- What each stage polls; finished rows are in none of these.
CREATE INDEX batch_sealed ON batch (sealed_at) WHERE state = 'sealed';
CREATE INDEX batch_creating ON batch (id) WHERE state = 'creating';
CREATE INDEX batch_watched ON batch (id) WHERE provider_open;
CREATE INDEX batch_unpublished ON batch (slot) WHERE state IN ('ended', 'decided');
CREATE INDEX batch_unfinished ON batch (lane_id) WHERE state IN ('sealed', 'creating', 'submitted', 'ended');
CREATE INDEX batch_root ON batch (root_id);
CREATE INDEX batch_files ON batch (published_at) WHERE published_at IS NOT NULL AND files_removed_at IS NULL;
CREATE INDEX batch_ledger ON batch (published_at) INCLUDE (slot)
    WHERE published_at IS NOT NULL AND ledger_cleared_at IS NULL;
CREATE INDEX batch_slot ON batch (slot) WHERE next_position > 0 AND ledger_cleared_at IS NULL;
CREATE INDEX batch_history ON batch (sealed_at);
CREATE INDEX batch_provider ON batch (provider_batch_id) WHERE provider_batch_id IS NOT NULL;

CREATE FUNCTION batch_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('sealed', 'creating'), ('sealed', 'ended'), ('sealed', 'split'),
        ('creating', 'submitted'), ('creating', 'sealed'),
        ('submitted', 'ended'),
        ('ended', 'decided'), ('ended', 'sealed'), ('ended', 'split'),
        ('decided', 'published')
    ) THEN
        RAISE EXCEPTION 'batch %: % -> % is no move', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER batch_moves BEFORE UPDATE OF state ON batch
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION batch_moves();

CREATE TABLE part (
    batch_id uuid NOT NULL REFERENCES batch ON DELETE CASCADE,
    ordinal integer NOT NULL,
    chunk_id uuid NOT NULL,
    first integer NOT NULL CHECK (first >= 0),
    requests integer NOT NULL CHECK (requests > 0),
    PRIMARY KEY (batch_id, ordinal)
);
CREATE INDEX part_chunk ON part (chunk_id);

CREATE TABLE intent (
    id uuid PRIMARY KEY,
    batch_id uuid NOT NULL,
    account text NOT NULL,
    intended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at timestamptz,
    outcome text CHECK (outcome IN ('landed', 'adopted', 'refused', 'absent')),
    provider_batch_id text,
    looked_up_at timestamptz,
    CHECK ((outcome IS NULL) = (settled_at IS NULL))
);
CREATE INDEX intent_recent ON intent (account, intended_at);
CREATE INDEX intent_batch ON intent (batch_id);
CREATE INDEX intent_doubt ON intent (intended_at) WHERE settled_at IS NULL;

CREATE TABLE reservation (
    batch_id uuid PRIMARY KEY,
    account text NOT NULL,
    model text NOT NULL,
    tokens bigint NOT NULL
);
CREATE INDEX reservation_model ON reservation (account, model) INCLUDE (tokens);

CREATE TABLE decision (
    id uuid PRIMARY KEY,
    batch_id uuid NOT NULL UNIQUE REFERENCES batch ON DELETE CASCADE,
    body bytea NOT NULL
);
ALTER TABLE decision ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE backlog (
    topic text PRIMARY KEY,
    stored_bytes bigint NOT NULL,
    paused boolean NOT NULL,
    measured_at timestamptz NOT NULL
);

CREATE TABLE ring (
    name text PRIMARY KEY,
    turn smallint NOT NULL,
    turns smallint NOT NULL,
    turned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO ring (name, turn, turns) VALUES ('payload', 0, 28), ('manifest', 0, 12);

CREATE TABLE payload (
    turn smallint NOT NULL,
    chunk_id uuid NOT NULL,
    lines bytea NOT NULL,
    PRIMARY KEY (turn, chunk_id)
) PARTITION BY LIST (turn);
CREATE TABLE manifest (
    turn smallint NOT NULL,
    chunk_id uuid NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (turn, chunk_id)
) PARTITION BY LIST (turn);
DO $$
DECLARE r record;
BEGIN
    FOR r IN SELECT name, CASE name WHEN 'payload' THEN 'lines' ELSE 'body' END AS big, n
             FROM ring, generate_series(0, turns - 1) AS n
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (%s)', r.name || '_' || r.n, r.name, r.n);
        EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET STORAGE EXTERNAL', r.name || '_' || r.n, r.big);
    END LOOP;
END $$;
