-- What is small and read everywhere: who, which devices, which queues. Reference tables on Citus.
-- Names and columns of the platform that Berth follows (MatrixDL) are kept; further ones are ours.
-- NULL means "nothing" or "empty": an empty text is never stored.

CREATE TABLE core.cells (
    cell_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (cell_id),
    UNIQUE (name)
);

-- password: an Argon2id hash. user_token is kept for its readers and stays NULL: tokens have a table.
-- usage: GPU-seconds, rolled up from time to time, never by the leader.
CREATE TABLE core.users (
    uid BIGINT NOT NULL,
    name TEXT NOT NULL,
    email TEXT,
    password TEXT,
    user_token TEXT,
    usage BIGINT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('user', 'admin')),
    state TEXT NOT NULL CHECK (state IN ('active', 'disabled')),
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (uid),
    UNIQUE (name)
);

-- token_hash: SHA-256 of the token, in hexadecimal. The token itself is stored nowhere.
CREATE TABLE core.tokens (
    token_hash TEXT NOT NULL,
    id UUID NOT NULL,
    uid BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    PRIMARY KEY (token_hash),
    UNIQUE (id)
);

CREATE INDEX tokens_uid ON core.tokens (uid);

-- cpu: whole cores, cpu_milli: thousandths. memory in MB of 2^20 bytes. labels: a JSON object.
CREATE TABLE core.device (
    did BIGINT NOT NULL,
    ip TEXT,
    cpu INTEGER NOT NULL CHECK (cpu >= 0),
    cpu_name TEXT,
    memory BIGINT NOT NULL CHECK (memory >= 0),
    data_dir TEXT,
    pub_dir TEXT,
    name TEXT NOT NULL,
    cell_id INTEGER NOT NULL,
    cpu_milli BIGINT NOT NULL CHECK (cpu_milli >= 0),
    engine TEXT,
    gpus_declared BOOLEAN NOT NULL,
    labels TEXT,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (did),
    UNIQUE (name)
);

CREATE TABLE core.gpu (
    gid BIGINT NOT NULL,
    type TEXT NOT NULL,
    uuid TEXT NOT NULL,
    memory_mb BIGINT NOT NULL,
    idx INTEGER NOT NULL CHECK (idx >= 0),
    PRIMARY KEY (gid),
    UNIQUE (uuid)
);

-- A GPU is on one device at most.
CREATE TABLE core.gpu_device (
    gid BIGINT NOT NULL,
    did BIGINT NOT NULL,
    PRIMARY KEY (gid)
);

CREATE INDEX gpu_device_did ON core.gpu_device (did);

CREATE TABLE core.images (
    iid BIGINT NOT NULL,
    did BIGINT NOT NULL,
    name TEXT NOT NULL,
    real_id TEXT,
    public BOOLEAN NOT NULL,
    size_mb BIGINT,
    seen_at TIMESTAMPTZ,
    PRIMARY KEY (iid),
    UNIQUE (did, name)
);

CREATE TABLE core.user_images (
    uid BIGINT NOT NULL,
    iid BIGINT NOT NULL,
    PRIMARY KEY (uid, iid)
);

-- quota, user_quota: JSON objects of GPU types to numbers; NULL: no limit.
CREATE TABLE core.queues (
    name TEXT NOT NULL,
    cell_id INTEGER NOT NULL,
    weight INTEGER NOT NULL CHECK (weight > 0),
    policy TEXT,
    placement TEXT,
    quota TEXT,
    user_quota TEXT,
    default_timeout_s BIGINT CHECK (default_timeout_s > 0),
    max_timeout_s BIGINT CHECK (max_timeout_s > 0),
    max_jobs BIGINT CHECK (max_jobs >= 0),
    approval BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE core.queue_members (
    queue TEXT NOT NULL,
    uid BIGINT NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (queue, uid)
);
