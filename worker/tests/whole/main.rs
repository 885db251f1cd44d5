//! The whole worker over a real RabbitMQ and a real Docker, with a scripted leader.

mod commands;
mod containers;
mod docker_away;
mod exchange;
mod guard;
mod limits;
mod once;
mod stage;
