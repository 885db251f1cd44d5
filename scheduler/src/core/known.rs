//! What a step must know that is not in memory: what the inputs name is looked up before it, so that a
//! repeated submission, a retry or a dependency on a finished job meets facts.

use std::collections::{BTreeSet, HashMap};

use berth_common::command::CommandView;
use berth_common::id::JobId;
use berth_common::message::{AdminRequest, Event, Target};
use uuid::Uuid;

use super::Core;
use super::input::Input;
use super::rows::{DependencyRow, Facts, JobRow, Needs, UserRow};

impl Core {
    /// What the inputs name and memory lacks; the shell looks it up before the step.
    #[must_use]
    pub fn needs(&self, inputs: &[Input]) -> Needs {
        let mut needs = Needs::default();
        for input in inputs {
            match input {
                Input::Submit(submission) => {
                    // An array is stored whole: its first element says whether it is there.
                    let first = submission.spec.job_ids(submission.id).first().copied();
                    needs.jobs.extend(first.filter(|id| !self.jobs.contains_key(id)));
                    // A key may have been used for a job and is now for an array, or the other way round.
                    needs.dependencies.extend(Some(submission.id).filter(is_of_a_key));
                    needs.users.push(submission.owner.clone());
                    needs.dependencies.extend(&submission.spec.after);
                }
                Input::Command(command) => {
                    if let Target::Job(job) = command.target
                        && !self.jobs.contains_key(&job)
                    {
                        needs.jobs.push(job);
                    }
                    needs.users.push(command.actor.clone());
                    needs.commands.push(command.id);
                }
                Input::Device(told) => match &told.event {
                    Event::Executed(executed) if !self.commands.contains_key(&executed.command) => {
                        needs.commands.push(executed.command);
                    }
                    Event::Executed(_)
                    | Event::Heartbeat(_)
                    | Event::Started(_)
                    | Event::Exited(_)
                    | Event::Answer(_) => {}
                },
                Input::Admin(admin) => {
                    needs.users.push(admin.actor.clone());
                    match &admin.request {
                        AdminRequest::CreateQueue { queue } | AdminRequest::ReplaceQueue { queue } => {
                            needs.users.extend(queue.members.iter().map(|member| member.user.clone()));
                        }
                        AdminRequest::DeleteQueue { name } => needs.queues.push(name.clone()),
                        AdminRequest::DeleteDevice { .. } => {}
                    }
                }
            }
        }
        needs.distinct()
    }
}

/// Whether an id was made from an idempotency key; the others are new.
fn is_of_a_key(id: &Uuid) -> bool {
    id.get_version_num() == 5
}

/// [`Facts`], by what they are about.
pub(super) struct Known {
    pub jobs: HashMap<JobId, JobRow>,
    pub users: HashMap<String, UserRow>,
    pub commands: HashMap<Uuid, CommandView>,
    /// By their own ids and by their arrays'.
    pub dependencies: HashMap<Uuid, Vec<DependencyRow>>,
    pub used_queues: BTreeSet<String>,
}

impl Known {
    pub fn new(facts: Facts) -> Self {
        let mut dependencies: HashMap<Uuid, Vec<DependencyRow>> = HashMap::new();
        for row in facts.dependencies {
            for name in [Some(row.id), row.array].into_iter().flatten() {
                dependencies.entry(name).or_default().push(row.clone());
            }
        }
        Self {
            jobs: facts.jobs.into_iter().map(|j| (j.id, j)).collect(),
            users: facts.users.into_iter().map(|u| (u.name.clone(), u)).collect(),
            commands: facts.commands.into_iter().map(|c| (c.id, c)).collect(),
            dependencies,
            used_queues: facts.used_queues.into_iter().collect(),
        }
    }
}
