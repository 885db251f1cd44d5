//! Berth from the outside: over HTTP and AMQP, on a real RabbitMQ, database and Docker.

mod amqp;
mod arrays;
mod bad_input;
mod commands;
mod crashes;
mod encrypted;
mod fence;
mod gangs;
mod life;
mod operators;
mod people;
mod queues;
mod reasons;
mod registry;
mod start;
mod trouble;
mod why;
