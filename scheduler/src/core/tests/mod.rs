//! The core as data: scripts in, decisions out, and every invariant after every step.

mod arrays;
mod commands;
mod gangs;
mod labels;
mod queues;
mod random;
mod scenarios;
mod strangers;
mod turns;
mod world;
