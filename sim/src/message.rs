//! What travels through the simulated broker: the real messages, as the text that travels in truth.

use berth_common::command::CommandBody;
use berth_common::message::Target;
use berth_scheduler::core::input::{Command, Input, Submission};
use serde_json::Value;
use uuid::Uuid;

/// What a client asks; it is asked again, word by word, until it is answered.
#[derive(Debug, Clone)]
pub enum Request {
    Submit { id: Uuid, owner: &'static str, spec: Value },
    Command { id: Uuid, actor: &'static str, target: Target, body: Value },
}

impl Request {
    /// As the leader's inbox reads it. All that clients of the simulator ask is valid.
    pub fn read(&self) -> Input {
        match self.clone() {
            Self::Submit { id, owner, spec } => {
                let spec =
                    berth_common::spec::from_value(spec).expect("the simulated clients write valid ones");
                Input::Submit(Box::new(Submission { id, owner: owner.into(), hash: spec.hash(), spec }))
            }
            Self::Command { id, actor, target, body } => {
                let body = CommandBody::from_value(body).expect("the simulated clients write valid ones");
                Input::Command(Command { id, target, actor: actor.into(), body })
            }
        }
    }
}

#[derive(Debug)]
pub enum Payload {
    Request(Request),
    /// A [`berth_common::message::FromDevice`].
    Report(String),
    /// What a leader sends to itself.
    Marker(u64),
    /// A [`berth_common::message::ToDevice`].
    Order(String),
}
