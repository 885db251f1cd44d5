//! The leader's side of RabbitMQ: what comes in is read ([`inbox`]), what was committed goes out
//! ([`outbox`]), and what nobody can use is laid aside ([`dead`]).

pub mod dead;
pub mod inbox;
pub mod outbox;
