//! `berth` as a person or a script uses it: the program, against an HTTP server that plays a script.

mod berth;
mod command;
mod follow;
mod job;
mod look;
mod run;
mod server;
mod simulate;
mod submit;
mod wait;
