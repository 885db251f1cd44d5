//! Broker and database away, at any moment and for any time; rights; and what a message can do wrong.
//!
//! Each test is a story: it works, something breaks, everybody says so, it is mended, it works. Nothing
//! that was promised is lost, and containers run through all of it.

mod accounts;
mod broker_away;
mod bytes;
mod database_away;
mod leaders;
mod management;
mod mishaps;
mod own_broker;
mod raw;
mod stage;
