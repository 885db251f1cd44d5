//! RabbitMQ: the names of the topology, and connections that look after themselves.
//!
//! lapin's own recovery leaves confirms and consumers hanging, so there is none of it here: on any
//! error the connection is dropped and made anew, with back-off, for ever ([`link`]). What others wrote
//! into a message is made readable before lapin reads it ([`frames`], [`wire`]). A process has two
//! connections, one that publishes and one that consumes, because a broker that is short of memory
//! blocks the publishing one altogether, acknowledgements and heartbeats included.

mod delivery;
mod frames;
mod link;
mod message;
mod publisher;
mod subscriber;
pub mod topology;
mod wire;

pub use delivery::Delivery;
pub use link::{Broker, LinkState};
pub use message::Message;
pub use publisher::{PublishError, Publisher};
pub use subscriber::{Declare, Subscriber, Subscription};
