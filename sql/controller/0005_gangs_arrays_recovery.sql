-- Places in arrays, gangs of containers, drained devices, and the restore of a backup. Columns and
-- constraints come one by one, and constraints have names: Citus takes them on distributed tables no
-- other way.

ALTER TABLE sched.jobs ADD COLUMN array_index INTEGER;

ALTER TABLE sched.jobs ADD CONSTRAINT array_has_index CHECK ((array_index IS NOT NULL) = (array_id IS NOT NULL));

ALTER TABLE sched.jobs ADD CONSTRAINT array_index_from_0 CHECK (array_index >= 0);

CREATE INDEX jobs_array ON sched.jobs (cell_id, array_id);

-- Of replica 0 of a gang: the port on its host at which the others find it.
ALTER TABLE sched.containers ADD COLUMN master_port INTEGER;

ALTER TABLE sched.containers ADD CONSTRAINT container_master_port CHECK (master_port BETWEEN 1 AND 65535);

-- How it ended, whole, as JSON: a gang is judged when its last container is gone.
ALTER TABLE sched.containers ADD COLUMN ending TEXT;

ALTER TABLE sched.containers ADD CONSTRAINT container_ending CHECK (ending IS NULL OR status = 'exited');

-- Whether somebody wants nothing started there. A device without a row here was deleted.
ALTER TABLE sched.device_state ADD COLUMN drained BOOLEAN NOT NULL DEFAULT FALSE;

-- Attempts are numbered beyond attempt_floor; recovering: since `berth-scheduler recover`, until what
-- the restored backup does not know has been looked through.
ALTER TABLE sched.leader ADD COLUMN attempt_floor INTEGER NOT NULL DEFAULT 0;

ALTER TABLE sched.leader ADD CONSTRAINT attempt_floor_from_0 CHECK (attempt_floor >= 0);

ALTER TABLE sched.leader ADD COLUMN recovering BOOLEAN NOT NULL DEFAULT FALSE;
