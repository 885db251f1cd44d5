-- What is only ever appended.

CREATE SCHEMA hist;

-- seq: from the leader's numbers, grows with time.
CREATE TABLE hist.job_events (
    cell_id INTEGER NOT NULL,
    job_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    from_status TEXT CHECK (from_status IN ('unapproved', 'pending', 'scheduled', 'running', 'exited')),
    to_status TEXT NOT NULL CHECK (to_status IN ('unapproved', 'pending', 'scheduled', 'running', 'exited')),
    actor TEXT NOT NULL,
    reason TEXT,
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cell_id, job_id, seq)
);

-- A row when the snapshot of the cluster has changed; status: JSON. Name and columns as in DLWorkspace.
CREATE TABLE hist.clusterstatus (
    cell_id INTEGER NOT NULL,
    id BIGINT NOT NULL,
    status TEXT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cell_id, id)
);
