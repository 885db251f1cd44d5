//! The control plane: a pure core that decides ([`core`]), the shell around it that reads, commits
//! and publishes ([`leader`], [`broker`], [`store`]), and the HTTP API in front ([`http`]).

pub mod ask;
pub mod broker;
pub mod config;
pub mod core;
pub mod health;
pub mod http;
pub mod leader;
pub mod metrics;
pub mod store;
