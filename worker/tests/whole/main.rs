//! The whole worker over a real RabbitMQ and a real Docker, with a scripted leader.

mod containers;
mod docker_away;
mod exchange;
mod guard;
mod once;
mod stage;
