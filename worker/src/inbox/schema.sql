-- What a worker must not forget, in its own SQLite file. Written in one transaction with the number
-- of the message that said it, before that message is acknowledged.

CREATE TABLE station (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    worker_id     TEXT    NOT NULL,           -- made once
    instance      TEXT,                       -- the installation that it obeys; none before its first welcome
    session       INTEGER NOT NULL DEFAULT 0, -- the largest ever welcomed
    last_id       INTEGER NOT NULL DEFAULT 0, -- the largest id taken in that session
    fence_after_s INTEGER                     -- as the last welcome said
);

CREATE TABLE attempt (
    job        TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    replica    INTEGER NOT NULL,
    session    INTEGER NOT NULL,            -- in which it was taken
    start      TEXT,                        -- the order as JSON; forgotten at the end, for it holds a password
    launched   INTEGER NOT NULL DEFAULT 0,  -- 1 before Docker is asked to start it: from then on a missing container is a vanished one
    fenced     INTEGER NOT NULL DEFAULT 0,  -- 1 before it is killed because the session was lost
    timed_out  INTEGER NOT NULL DEFAULT 0,  -- 1 where that stop is the worker's own: it had run for its time limit
    stop_at_us INTEGER,                     -- when a stop was taken, in microseconds since 1970
    grace_ms   INTEGER,
    ending     TEXT,                        -- JSON
    ended_at_us INTEGER,
    reported   INTEGER NOT NULL DEFAULT 0,  -- 1 once the broker has confirmed the report of its end
    PRIMARY KEY (job, attempt, replica),
    CHECK ((stop_at_us IS NULL) = (grace_ms IS NULL)),
    CHECK ((ending IS NULL) = (ended_at_us IS NULL)),
    CHECK ((start IS NULL) = (ending IS NOT NULL)),
    CHECK (reported = 0 OR ending IS NOT NULL)
) WITHOUT ROWID;

-- What was to be run beside a job's program, at most once.
CREATE TABLE command (
    id         TEXT    PRIMARY KEY,         -- the command's, given by who asked
    begun      INTEGER NOT NULL DEFAULT 0,  -- 1 before Docker is asked to run it
    result     TEXT,                        -- JSON, before it is reported
    done_at_us INTEGER,
    reported   INTEGER NOT NULL DEFAULT 0,  -- 1 once the broker has confirmed the report
    CHECK ((result IS NULL) = (done_at_us IS NULL)),
    CHECK (reported = 0 OR result IS NOT NULL)
) WITHOUT ROWID;

-- At a start of the worker: what is not over yet.
CREATE INDEX attempt_open ON attempt (reported) WHERE reported = 0;
-- Forgetting what ended long ago.
CREATE INDEX attempt_ended ON attempt (ended_at_us) WHERE ended_at_us IS NOT NULL;
