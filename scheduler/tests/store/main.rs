//! The store against a real database.

mod check_sql;
mod database;
mod devices;
mod gangs;
mod lease;
mod literals;
mod migrate;
mod queues;
mod recover;
mod refused;
mod round_trip;
mod sample;
mod subset;
mod usages;
mod words;
