//! Berth from the outside: over HTTP and AMQP, on a real RabbitMQ, database and Docker.

mod amqp;
mod bad_input;
mod crashes;
mod fence;
mod life;
mod people;
mod registry;
mod start;
mod trouble;
