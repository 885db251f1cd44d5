//! The core as data: scripts in, decisions out, and every invariant after every step.

mod random;
mod scenarios;
mod world;
