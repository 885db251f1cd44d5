//! What travels through the simulated broker: the real messages, as the text that travels in truth.

use berth_common::command::CommandBody;
use berth_common::message::{AdminRequest, Target};
use berth_common::queue::Queue;
use berth_scheduler::core::input::{Admin, Command, Input, Submission};
use serde_json::Value;
use uuid::Uuid;

/// What a client asks; it is asked again, word by word, until it is answered.
#[derive(Debug, Clone)]
pub enum Request {
    Submit {
        id: Uuid,
        owner: &'static str,
        spec: Value,
    },
    Command {
        id: Uuid,
        actor: &'static str,
        target: Target,
        body: Value,
    },
    /// An [`AdminRequest`].
    Admin {
        actor: &'static str,
        body: Value,
    },
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
            Self::Admin { actor, body } => {
                let mut request: AdminRequest =
                    serde_json::from_value(body).expect("the simulated admins write valid ones");
                if let AdminRequest::CreateQueue { queue } | AdminRequest::ReplaceQueue { queue } =
                    &mut request
                {
                    let value = serde_json::to_value(&**queue).expect("a queue is plain JSON");
                    **queue = Queue::from_value(value).expect("the simulated admins write valid ones");
                }
                Input::Admin(Admin { actor: actor.into(), request })
            }
        }
    }

    /// The settings that a queue is to have, where that is what is asked.
    pub fn settings(&self) -> Option<Queue> {
        match self.read() {
            Input::Admin(Admin { request: AdminRequest::ReplaceQueue { queue }, .. }) => Some(*queue),
            Input::Admin(_) | Input::Submit(_) | Input::Command(_) | Input::Device(_) => None,
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
