-- What decides whose turn it is among queues: GPU time that was used and then forgotten by half-lives,
-- as it stood at a time; what runs since then is counted by the leader. Written about once a minute, so
-- among the tables of a cell: core.queues has a copy on every node of Citus, and a leader's batch must
-- not wait for all of them. A row may be missing (nothing was used yet) and goes with its queue; it has
-- no foreign key, because the only one who writes and deletes it looks for the queue in the statement.
CREATE TABLE sched.queue_usage (
    cell_id INTEGER NOT NULL,
    queue TEXT NOT NULL,
    gpu_ms BIGINT NOT NULL CHECK (gpu_ms >= 0),
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (cell_id, queue)
);
