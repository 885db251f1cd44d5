-- Makes a migrated database a Citus one: small tables are copied to every node, those of a cell are
-- spread by cell_id. Run it on the coordinator after the migrations, and again after later ones; what
-- is distributed already is left as it is. One statement after the other, outside of a transaction:
--   psql -v ON_ERROR_STOP=1 -f sql/engines/citus.sql
-- Foreign keys are dropped before and added after: Citus takes them only between tables that are
-- distributed already.

ALTER TABLE core.tokens DROP CONSTRAINT IF EXISTS tokens_uid_fk;
ALTER TABLE core.device DROP CONSTRAINT IF EXISTS device_cell_fk;
ALTER TABLE core.gpu_device DROP CONSTRAINT IF EXISTS gpu_device_gid_fk;
ALTER TABLE core.gpu_device DROP CONSTRAINT IF EXISTS gpu_device_did_fk;
ALTER TABLE core.images DROP CONSTRAINT IF EXISTS images_did_fk;
ALTER TABLE core.user_images DROP CONSTRAINT IF EXISTS user_images_uid_fk;
ALTER TABLE core.user_images DROP CONSTRAINT IF EXISTS user_images_iid_fk;
ALTER TABLE core.queues DROP CONSTRAINT IF EXISTS queues_cell_fk;
ALTER TABLE core.queue_members DROP CONSTRAINT IF EXISTS queue_members_queue_fk;
ALTER TABLE core.queue_members DROP CONSTRAINT IF EXISTS queue_members_uid_fk;
ALTER TABLE sched.containers DROP CONSTRAINT IF EXISTS containers_job_fk;
ALTER TABLE sched.reservation DROP CONSTRAINT IF EXISTS reservation_cid_fk;
ALTER TABLE sched.reservation DROP CONSTRAINT IF EXISTS reservation_gid_fk;
ALTER TABLE sched.device_state DROP CONSTRAINT IF EXISTS device_state_did_fk;

-- Reference tables.
SELECT create_reference_table('core.schema_migrations') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.schema_migrations'::regclass);
SELECT create_reference_table('core.cells') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.cells'::regclass);
SELECT create_reference_table('core.users') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.users'::regclass);
SELECT create_reference_table('core.tokens') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.tokens'::regclass);
SELECT create_reference_table('core.device') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.device'::regclass);
SELECT create_reference_table('core.gpu') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.gpu'::regclass);
SELECT create_reference_table('core.gpu_device') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.gpu_device'::regclass);
SELECT create_reference_table('core.images') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.images'::regclass);
SELECT create_reference_table('core.user_images') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.user_images'::regclass);
SELECT create_reference_table('core.queues') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.queues'::regclass);
SELECT create_reference_table('core.queue_members') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'core.queue_members'::regclass);

-- Tables of a cell, their shards side by side.
SELECT create_distributed_table('sched.leader', 'cell_id', colocate_with => 'none') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.leader'::regclass);
SELECT create_distributed_table('sched.jobs', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.jobs'::regclass);
SELECT create_distributed_table('sched.job_labels', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.job_labels'::regclass);
SELECT create_distributed_table('sched.containers', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.containers'::regclass);
SELECT create_distributed_table('sched.container_gpu', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.container_gpu'::regclass);
SELECT create_distributed_table('sched.reservation', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.reservation'::regclass);
SELECT create_distributed_table('sched.device_state', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.device_state'::regclass);
SELECT create_distributed_table('sched.commands', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.commands'::regclass);
SELECT create_distributed_table('sched.outbox', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.outbox'::regclass);
SELECT create_distributed_table('sched.queue_usage', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'sched.queue_usage'::regclass);
SELECT create_distributed_table('hist.job_events', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'hist.job_events'::regclass);
SELECT create_distributed_table('hist.clusterstatus', 'cell_id', colocate_with => 'sched.leader') WHERE NOT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrel = 'hist.clusterstatus'::regclass);

ALTER TABLE core.tokens ADD CONSTRAINT tokens_uid_fk FOREIGN KEY (uid) REFERENCES core.users (uid);
ALTER TABLE core.device ADD CONSTRAINT device_cell_fk FOREIGN KEY (cell_id) REFERENCES core.cells (cell_id);
ALTER TABLE core.gpu_device ADD CONSTRAINT gpu_device_gid_fk FOREIGN KEY (gid) REFERENCES core.gpu (gid);
ALTER TABLE core.gpu_device ADD CONSTRAINT gpu_device_did_fk FOREIGN KEY (did) REFERENCES core.device (did);
ALTER TABLE core.images ADD CONSTRAINT images_did_fk FOREIGN KEY (did) REFERENCES core.device (did);
ALTER TABLE core.user_images ADD CONSTRAINT user_images_uid_fk FOREIGN KEY (uid) REFERENCES core.users (uid);
ALTER TABLE core.user_images ADD CONSTRAINT user_images_iid_fk FOREIGN KEY (iid) REFERENCES core.images (iid);
ALTER TABLE core.queues ADD CONSTRAINT queues_cell_fk FOREIGN KEY (cell_id) REFERENCES core.cells (cell_id);
ALTER TABLE core.queue_members ADD CONSTRAINT queue_members_queue_fk FOREIGN KEY (queue) REFERENCES core.queues (name);
ALTER TABLE core.queue_members ADD CONSTRAINT queue_members_uid_fk FOREIGN KEY (uid) REFERENCES core.users (uid);
ALTER TABLE sched.containers ADD CONSTRAINT containers_job_fk FOREIGN KEY (cell_id, job_id) REFERENCES sched.jobs (cell_id, job_id);
ALTER TABLE sched.reservation ADD CONSTRAINT reservation_cid_fk FOREIGN KEY (cell_id, cid) REFERENCES sched.containers (cell_id, cid);
ALTER TABLE sched.reservation ADD CONSTRAINT reservation_gid_fk FOREIGN KEY (gid) REFERENCES core.gpu (gid);
ALTER TABLE sched.device_state ADD CONSTRAINT device_state_did_fk FOREIGN KEY (did) REFERENCES core.device (did);
