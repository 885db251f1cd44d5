//! Small worlds, explored as a whole: the real core and the real decisions of the workers, with messages
//! that are lost, repeated and taken in any order, with either side losing its memory at any moment, and
//! with a kill at any time.
//!
//! What is real: `berth_scheduler::core` and `berth_worker::{agent, ending}`. What is a model: the tables
//! ([`tables`]), the broker ([`state`]), Docker ([`engine`]), and the order in which a worker writes,
//! speaks and acts ([`worker`], [`moves`]). What can happen is in [`action`], what follows in [`after`],
//! what must hold in [`laws`], [`leader`] and [`rest`], what makes two states one in [`mod@print`].
//!
//! Simplified: time comes in ticks, longer than every limit of the exchange but the loss of a device; a
//! heartbeat is read at once, or it is one of the late ones, and expires with the tick; what can make no
//! difference any more happens at once ([`state::State`]); a stop or a question that is repeated takes the
//! place of the first while that is on its way.
//!
//! Not in it: clocks that differ or jump, a Docker that fails, images, time limits, more than one leader
//! at a time. The fault simulator looks for those at random.

pub mod action;
pub mod after;
pub mod engine;
pub mod explore;
pub mod laws;
pub mod leader;
pub mod moves;
mod orders;
mod perform;
pub mod print;
pub mod rest;
pub mod state;
pub mod tables;
pub mod words;
pub mod worker;
pub mod world;
