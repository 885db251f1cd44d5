-- What each device measures, one row per time. The same statements make the tables in SQLite (a
-- file attached as "telemetry") and in openGauss or PostgreSQL, where several devices share them.
-- NULL means "not measured": a declared GPU, a container whose GPUs nobody reads.

CREATE TABLE telemetry.migrations (
    name TEXT NOT NULL PRIMARY KEY,
    applied_at TIMESTAMPTZ NOT NULL
);

-- Percent; GPUs: mean load and memory in use, over all of them.
CREATE TABLE telemetry.gauge (
    device TEXT NOT NULL,
    t TIMESTAMPTZ NOT NULL,
    cpu DOUBLE PRECISION,
    mem DOUBLE PRECISION,
    gpu_load DOUBLE PRECISION,
    gpu_mem DOUBLE PRECISION,
    PRIMARY KEY (device, t)
);

-- MB of 2^20 bytes.
CREATE TABLE telemetry.memory (
    device TEXT NOT NULL,
    t TIMESTAMPTZ NOT NULL,
    total DOUBLE PRECISION,
    used DOUBLE PRECISION,
    PRIMARY KEY (device, t)
);

-- MB, all GPUs together.
CREATE TABLE telemetry.gpumem (
    device TEXT NOT NULL,
    t TIMESTAMPTZ NOT NULL,
    total DOUBLE PRECISION,
    used DOUBLE PRECISION,
    PRIMARY KEY (device, t)
);

-- MB/s, all disks together.
CREATE TABLE telemetry.diskio (
    device TEXT NOT NULL,
    t TIMESTAMPTZ NOT NULL,
    read_rate DOUBLE PRECISION,
    write_rate DOUBLE PRECISION,
    PRIMARY KEY (device, t)
);

-- MB/s, all interfaces to the outside together.
CREATE TABLE telemetry.netio (
    device TEXT NOT NULL,
    t TIMESTAMPTZ NOT NULL,
    send_rate DOUBLE PRECISION,
    recv_rate DOUBLE PRECISION,
    PRIMARY KEY (device, t)
);

-- gpu is NVML's UUID; load in percent, mem_used in MB, ecc: uncorrected errors since the driver was loaded.
CREATE TABLE telemetry.gpu_sample (
    device TEXT NOT NULL,
    t TIMESTAMPTZ NOT NULL,
    gpu TEXT NOT NULL,
    load DOUBLE PRECISION,
    mem_used DOUBLE PRECISION,
    power_w DOUBLE PRECISION,
    temp_c DOUBLE PRECISION,
    ecc DOUBLE PRECISION,
    PRIMARY KEY (device, t, gpu)
);

-- cpu in percent of one CPU, mem in MB without the page cache; gpu_load: mean percent of its GPUs,
-- gpu_mem: MB in use on them.
CREATE TABLE telemetry.container_sample (
    device TEXT NOT NULL,
    t TIMESTAMPTZ NOT NULL,
    container TEXT NOT NULL,
    cpu DOUBLE PRECISION,
    mem DOUBLE PRECISION,
    gpu_load DOUBLE PRECISION,
    gpu_mem DOUBLE PRECISION,
    PRIMARY KEY (device, t, container)
);
