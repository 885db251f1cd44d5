-- What the leader of a cell writes. Every key begins with cell_id: one batch is one shard on Citus.
-- What the types of scheduler/src/core/rows.rs promise stands here as CHECKs: what is against it
-- cannot be stored. They ask for the presence of times and never compare them.

CREATE SCHEMA sched;

-- One row per cell. Who holds the lease renews it once a second; a batch locks the row if the epoch
-- is its own, and does not write it.
CREATE TABLE sched.leader (
    cell_id INTEGER NOT NULL,
    epoch BIGINT NOT NULL CHECK (epoch >= 0),
    holder TEXT,
    backend BIGINT,
    next_id BIGINT NOT NULL CHECK (next_id > 0),
    renewed_at TIMESTAMPTZ NOT NULL,
    instance UUID NOT NULL,
    secret TEXT NOT NULL,
    PRIMARY KEY (cell_id)
);

-- spec: the specification as JSON; name, owner, queue, priority, array_id are there to be searched,
-- gpus (of all replicas) to be summed.
CREATE TABLE sched.jobs (
    cell_id INTEGER NOT NULL,
    job_id UUID NOT NULL,
    name TEXT,
    uid BIGINT NOT NULL,
    owner TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    array_id UUID,
    gpus BIGINT NOT NULL CHECK (gpus >= 0),
    spec TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('unapproved', 'pending', 'scheduled', 'running', 'exited')),
    outcome TEXT CHECK (outcome IN ('succeeded', 'failed', 'killed', 'timed_out', 'error')),
    held BOOLEAN NOT NULL,
    stopping TEXT CHECK (stopping IN ('sibling', 'preempt', 'drain', 'hold', 'timeout', 'kill')),
    grace_ms BIGINT CHECK (grace_ms >= 0),
    attempt INTEGER NOT NULL CHECK (attempt >= 0),
    failures INTEGER NOT NULL CHECK (failures >= 0),
    faults INTEGER NOT NULL CHECK (faults >= 0),
    not_before TIMESTAMPTZ,
    exit_code BIGINT,
    error TEXT,
    submitted_at TIMESTAMPTZ NOT NULL,
    scheduled_at TIMESTAMPTZ,
    started_at TIMESTAMPTZ,
    exited_at TIMESTAMPTZ,
    PRIMARY KEY (cell_id, job_id),
    CONSTRAINT outcome_when_exited CHECK ((outcome IS NOT NULL) = (status = 'exited')),
    CONSTRAINT exited_at_when_exited CHECK ((exited_at IS NOT NULL) = (status = 'exited')),
    CONSTRAINT held_while_pending CHECK (status = 'pending' OR NOT held),
    CONSTRAINT stopping_while_placed CHECK (stopping IS NULL OR status IN ('scheduled', 'running')),
    CONSTRAINT grace_while_stopping CHECK ((grace_ms IS NOT NULL) = (stopping IS NOT NULL)),
    CONSTRAINT placed_has_attempt CHECK (status NOT IN ('scheduled', 'running') OR (attempt > 0 AND scheduled_at IS NOT NULL)),
    CONSTRAINT started_at_when_running CHECK (status NOT IN ('scheduled', 'running') OR (started_at IS NOT NULL) = (status = 'running')),
    CONSTRAINT started_was_scheduled CHECK (started_at IS NULL OR scheduled_at IS NOT NULL)
);

-- Unfinished jobs are those without exited_at: this index finds them, and changes once in a job's life.
CREATE INDEX jobs_exited ON sched.jobs (cell_id, exited_at);

CREATE INDEX jobs_submitted ON sched.jobs (cell_id, submitted_at, job_id);

CREATE INDEX jobs_owner ON sched.jobs (cell_id, owner, submitted_at, job_id);

CREATE INDEX jobs_queue ON sched.jobs (cell_id, queue, submitted_at, job_id);

CREATE TABLE sched.job_labels (
    cell_id INTEGER NOT NULL,
    job_id UUID NOT NULL,
    key TEXT NOT NULL,
    value TEXT,
    PRIMARY KEY (cell_id, job_id, key)
);

CREATE INDEX job_labels_value ON sched.job_labels (cell_id, key, value, job_id);

-- A row per replica of an attempt. cpu: whole cores, rounded up. memory in MB of 2^20 bytes. ports: a
-- JSON object of names to numbers on the host. order_id: the number of its start message.
CREATE TABLE sched.containers (
    cell_id INTEGER NOT NULL,
    cid BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    iid BIGINT,
    name TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    memory BIGINT NOT NULL,
    portssh INTEGER,
    portjupyter INTEGER,
    porttsb INTEGER,
    passwd TEXT,
    status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'exited')),
    cpu_milli BIGINT NOT NULL,
    job_id UUID NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    replica INTEGER NOT NULL CHECK (replica >= 0),
    did BIGINT NOT NULL,
    session BIGINT NOT NULL,
    order_id BIGINT NOT NULL,
    ports TEXT,
    docker_id TEXT,
    exit_code BIGINT,
    oom BOOLEAN NOT NULL,
    error TEXT,
    scheduled_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ,
    exited_at TIMESTAMPTZ,
    PRIMARY KEY (cell_id, cid),
    UNIQUE (cell_id, job_id, attempt, replica),
    CONSTRAINT container_exited_at CHECK ((exited_at IS NOT NULL) = (status = 'exited')),
    CONSTRAINT container_started_at CHECK (status = 'exited' OR (started_at IS NOT NULL) = (status = 'running')),
    CONSTRAINT container_exit_code CHECK (exit_code IS NULL OR status = 'exited')
);

CREATE INDEX containers_exited ON sched.containers (cell_id, exited_at);

CREATE INDEX containers_did ON sched.containers (cell_id, did);

-- The history of reservations. used: 1 while it lasts, then 0.
CREATE TABLE sched.container_gpu (
    cell_id INTEGER NOT NULL,
    cid BIGINT NOT NULL,
    gid BIGINT NOT NULL,
    used INTEGER NOT NULL CHECK (used IN (0, 1)),
    reserved_at TIMESTAMPTZ NOT NULL,
    released_at TIMESTAMPTZ,
    PRIMARY KEY (cell_id, cid, gid),
    CONSTRAINT released_when_not_used CHECK ((released_at IS NOT NULL) = (used = 0))
);

-- A row is there while its GPU is taken. Its key makes two owners impossible.
CREATE TABLE sched.reservation (
    cell_id INTEGER NOT NULL,
    gid BIGINT NOT NULL,
    cid BIGINT NOT NULL,
    did BIGINT NOT NULL,
    job_id UUID NOT NULL,
    reserved_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cell_id, gid)
);

-- session: 0 before the first welcome.
CREATE TABLE sched.device_state (
    cell_id INTEGER NOT NULL,
    did BIGINT NOT NULL,
    worker_id UUID NOT NULL,
    boot UUID NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('up', 'draining', 'degraded', 'lost')),
    session BIGINT NOT NULL CHECK (session >= 0),
    note TEXT,
    last_seen_at TIMESTAMPTZ NOT NULL,
    health TEXT,
    PRIMARY KEY (cell_id, did)
);

-- A command aims at a job or at a device (by name). argument: the body it came with, as JSON.
CREATE TABLE sched.commands (
    cell_id INTEGER NOT NULL,
    id UUID NOT NULL,
    job_id UUID,
    device TEXT,
    verb TEXT NOT NULL CHECK (verb IN ('kill', 'hold', 'release', 'retry', 'approve', 'priority', 'timeout', 'exec', 'drain', 'resume', 'pull', 'remove', 'commit')),
    argument TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    status TEXT NOT NULL CHECK (status IN ('pending', 'done', 'failed', 'unknown')),
    exit_code BIGINT,
    output TEXT,
    truncated BOOLEAN NOT NULL,
    asked_at TIMESTAMPTZ NOT NULL,
    done_at TIMESTAMPTZ,
    PRIMARY KEY (cell_id, id),
    CONSTRAINT one_target CHECK ((job_id IS NULL) <> (device IS NULL)),
    CONSTRAINT done_at_when_over CHECK ((done_at IS NULL) = (status = 'pending'))
);

-- Pending commands are those without done_at.
CREATE INDEX commands_done ON sched.commands (cell_id, done_at);

CREATE INDEX commands_job ON sched.commands (cell_id, job_id, asked_at, id);

-- Messages that are to be published, deleted once they are. body: the whole message, as JSON.
CREATE TABLE sched.outbox (
    cell_id INTEGER NOT NULL,
    id BIGINT NOT NULL,
    device TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cell_id, id)
);
