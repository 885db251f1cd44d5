-- Foreign keys, apart from the tables: an engine that distributes them wants these dropped before and
-- added after (sql/engines/citus.sql). They stay inside a cell or lead to reference tables. What is only
-- ever written in one transaction with its parent (labels, history) has none: each costs a look-up per row.

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
