//! The whole worker over a real RabbitMQ and a real Docker, with a scripted leader.

mod containers;
mod exchange;
mod once;
mod stage;
