-- Which files of this folder have been applied. This one is recorded nowhere: the table is its record.

CREATE SCHEMA core;

CREATE TABLE core.schema_migrations (
    version BIGINT NOT NULL,
    name TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (version)
);
