//! The store against a real database.

mod database;
mod lease;
mod migrate;
mod refused;
mod round_trip;
mod sample;
mod words;
