//! What comes into the core and what it decides.

use berth_common::command::CommandBody;
use berth_common::message::{AdminRequest, FromDevice, Reply, Target};
use berth_common::spec::JobSpec;
use uuid::Uuid;

use super::rows::Rows;

/// Something that happened outside. Time is no input: every step is told the present.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Submit(Box<Submission>),
    Command(Command),
    Device(Box<FromDevice>),
    Admin(Admin),
}

/// A valid specification in somebody's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The job's; the array's where the specification makes one.
    pub id: Uuid,
    pub owner: String,
    pub spec: JobSpec,
    pub hash: String,
}

/// A valid command in somebody's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// From its sender: the same id is the same command.
    pub id: Uuid,
    pub target: Target,
    pub actor: String,
    pub body: CommandBody,
}

/// A change of the cluster in an admin's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    pub actor: String,
    pub request: AdminRequest,
}

/// What a step decided: rows to be written in one transaction, and answers to be given after it.
/// Messages to devices are the rows of the outbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decisions {
    pub rows: Rows,
    /// By place of the input in the batch; a device's report has one only when it is refused.
    pub replies: Vec<(usize, Reply)>,
    /// Reports that were about nothing the leader knows: counted, and dropped.
    pub dropped_reports: u64,
}
