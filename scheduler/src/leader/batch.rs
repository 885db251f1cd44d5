//! One batch: its messages are read, decided and committed together, and only then answered.
//!
//! A batch that fails for what is in it is decided again, one message at a time, so that it costs
//! only the one that fails alone.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use berth_common::broker::{Delivery, Message};
use berth_common::message::{LeaderRpc, REPLY, Reply, Why};
use berth_common::problem::Problem;
use berth_common::time::now;
use jiff::Timestamp;

use super::Leader;
use super::ear::Ear;
use super::refusals::{address, is_report};
use super::reign::{Reign, load};
use crate::broker::dead::lay_aside;
use crate::broker::inbox::{Read, is_awaited, read};
use crate::core::Core;
use crate::core::input::{Decisions, Input};
use crate::store::StoreError;

/// New jobs of one transaction: one array of the largest size.
const MAX_JOBS: u32 = berth_common::array::MAX_ELEMENTS;
/// Pause before a message is laid aside that could not be.
const LAY_ASIDE_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Batch {
    /// What the core has to decide, with what it came from.
    inputs: Vec<(Delivery, Input)>,
    questions: Vec<(Delivery, LeaderRpc)>,
}

/// What becomes of a delivery that the core does not see, or has seen.
enum Fate {
    Answer(Reply),
    /// To be told if somebody listens, and of no use to anybody else.
    Told(Reply),
    Dead(String),
    /// It alone made a batch fail: laid aside, and whoever asked is told.
    Poison(String),
    /// Nobody is to be told anything.
    Done,
}

impl Batch {
    /// Reads deliveries; what is invalid is answered, what is unreadable laid aside, at once.
    pub fn read(leader: &Leader, ear: &mut Ear, deliveries: Vec<Delivery>) -> Self {
        let mut batch = Self { inputs: Vec::new(), questions: Vec::new() };
        for delivery in deliveries {
            match read(&delivery, leader.broker.user()) {
                Read::Input(input) => batch.inputs.push((delivery, *input)),
                Read::Marker(number) => {
                    ear.came(number);
                    end(leader, delivery, Fate::Done);
                }
                Read::Question(question) => batch.questions.push((delivery, question)),
                Read::Refused(problem) => {
                    let body = serde_json::to_value(&problem).expect("a problem is plain JSON");
                    end(leader, delivery, Fate::Answer(Reply { status: problem.status, body }));
                }
                Read::Unreadable(reason) => end(leader, delivery, Fate::Dead(reason)),
            }
        }
        batch
    }

    pub async fn decide(self, leader: &Leader, reign: &mut Reign) -> Result<(), StoreError> {
        for (delivery, question) in self.questions {
            // A thousand jobs are explained in one answer, and a thousand answers may be due.
            reign.renew_when_due().await?;
            let body = answer(&reign.core, &question, reign.present());
            end(leader, delivery, Fate::Answer(Reply { status: 200, body }));
        }
        // Also without any input: the time has its own effects.
        let mut parts = parts(self.inputs);
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for part in parts {
            reign.renew_when_due().await?;
            reign.decide(leader, part).await?;
        }
        Ok(())
    }
}

fn answer(core: &Core, question: &LeaderRpc, at: Timestamp) -> serde_json::Value {
    match question {
        LeaderRpc::Reasons { jobs } => serde_json::to_value(core.explain(jobs, at)),
        LeaderRpc::Why { job } => {
            let waiting = core.explain(&[*job], at).remove(job);
            serde_json::to_value(Why { waiting, changes: core.changes_that_help(*job, at) })
        }
    }
    .expect("reasons are plain JSON")
}

/// Parts that are committed one after the other, each with so many new jobs at most: an array is one
/// message and many rows.
fn parts(inputs: Vec<(Delivery, Input)>) -> Vec<Vec<(Delivery, Input)>> {
    let mut parts: Vec<Vec<(Delivery, Input)>> = Vec::new();
    let mut jobs = 0;
    for (delivery, input) in inputs {
        let new = match &input {
            Input::Submit(submission) => submission.spec.element_count().unwrap_or(1),
            Input::Command(_) | Input::Device(_) | Input::Admin(_) => 0,
        };
        jobs += new;
        match parts.last_mut().filter(|_| jobs <= MAX_JOBS) {
            Some(part) => part.push((delivery, input)),
            None => {
                jobs = new;
                parts.push(vec![(delivery, input)]);
            }
        }
    }
    parts
}

impl Reign {
    /// Decides inputs together; if they fail for what is in them, one by one.
    async fn decide(&mut self, leader: &Leader, inputs: Vec<(Delivery, Input)>) -> Result<(), StoreError> {
        let reign = self;
        let (deliveries, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
        match reign.commit(leader, inputs.clone()).await {
            Ok(decisions) => reign.answer(leader, deliveries, decisions),
            Err(StoreError::Poison { text }) if inputs.len() == 1 => {
                reign.reload(leader).await?;
                deliveries.into_iter().for_each(|delivery| end(leader, delivery, Fate::Poison(text.clone())));
            }
            Err(StoreError::Poison { text }) if inputs.is_empty() => {
                return Err(StoreError::Unknown { text });
            }
            Err(StoreError::Poison { text }) => {
                tracing::warn!(
                    error = text,
                    inputs = inputs.len(),
                    "a batch failed for what is in it; one by one"
                );
                reign.reload(leader).await?;
                for (delivery, input) in deliveries.into_iter().zip(inputs) {
                    reign.renew_when_due().await?;
                    match reign.commit(leader, vec![input]).await {
                        Ok(decisions) => reign.answer(leader, vec![delivery], decisions),
                        Err(StoreError::Poison { text }) => {
                            reign.reload(leader).await?;
                            end(leader, delivery, Fate::Poison(text));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Decides and commits; on success the messages to devices are on their way.
    async fn commit(&mut self, leader: &Leader, inputs: Vec<Input>) -> Result<Decisions, StoreError> {
        let facts = match self.core.needs(&inputs) {
            needs if needs == crate::core::rows::Needs::default() => crate::core::rows::Facts::default(),
            needs => self.lead.facts(&needs).await?,
        };
        let at = self.present();
        let core = &mut self.core;
        // A panic of the core is a fault of one input: the memory is thrown away with it.
        let step = std::panic::catch_unwind(AssertUnwindSafe(|| core.step(at, inputs, facts)));
        let mut decisions = step.map_err(|panic| StoreError::Poison { text: panic_text(&*panic) })?;
        let published = self.outbox.take_published();
        if !decisions.rows.is_empty() || !published.is_empty() {
            let began = tokio::time::Instant::now();
            self.lead.commit(&decisions.rows, &published, at).await?;
            leader.metrics.committed(began.elapsed());
        }
        leader.metrics.dropped(decisions.dropped_reports);
        decisions.rows.forgotten_devices.iter().for_each(|device| self.outbox.forget(&device.name));
        self.outbox.send(std::mem::take(&mut decisions.rows.outbox));
        Ok(decisions)
    }

    /// Back to what the database has. What was published and not deleted goes out once more.
    async fn reload(&mut self, leader: &Leader) -> Result<(), StoreError> {
        let (core, loaded) = load(leader, &mut self.lead, &self.clock).await?;
        self.core = core;
        self.outbox = crate::broker::outbox::Outbox::start(&leader.broker, leader.publisher.clone());
        self.outbox.send(loaded);
        Ok(())
    }

    fn answer(&mut self, leader: &Leader, deliveries: Vec<Delivery>, decisions: Decisions) {
        let mut replies = decisions.replies.into_iter().peekable();
        for (place, delivery) in deliveries.into_iter().enumerate() {
            let fate = match replies.next_if(|(of, _)| *of == place) {
                Some((_, reply)) if is_report(&delivery) => {
                    self.refusals.tell(&delivery, refusal(&reply));
                    Fate::Told(reply)
                }
                Some((_, reply)) => Fate::Answer(reply),
                None => Fate::Done,
            };
            end(leader, delivery, fate);
        }
    }
}

/// Tells whoever asked, then acknowledges. A refusal that nobody hears any more is laid aside.
fn end(leader: &Leader, delivery: Delivery, fate: Fate) {
    let (publisher, stop) = (leader.publisher.clone(), leader.stop.clone());
    leader.tasks.spawn(async move {
        let (answer, dead) = match fate {
            Fate::Answer(reply) if reply.status >= 400 && !is_awaited(&delivery, now()) => {
                (None, Some(refusal(&reply)))
            }
            Fate::Answer(reply) | Fate::Told(reply) => (Some(reply), None),
            Fate::Dead(reason) => (None, Some(reason)),
            Fate::Poison(reason) => (Some(broken(&delivery)), Some(reason)),
            Fate::Done => (None, None),
        };
        if let (Some(reply), Some((exchange, to))) = (answer, address(&delivery)) {
            let body = serde_json::to_vec(&reply).expect("a reply is plain JSON");
            let mut message = Message::new(exchange, to, REPLY, delivery.message_id.clone(), body);
            message.correlation_id.clone_from(&delivery.correlation_id);
            message.mandatory = false;
            // Whoever asked will ask again: the same question has the same answer.
            let _ = publisher.publish(message).await;
        }
        if let Some(reason) = dead {
            while lay_aside(&publisher, &delivery, &reason).await.is_err() {
                // Not acknowledged: it comes again to the next leader.
                if stop.run_until_cancelled(tokio::time::sleep(LAY_ASIDE_AGAIN)).await.is_none() {
                    return;
                }
            }
        }
        delivery.ack().await;
    });
}

fn broken(delivery: &Delivery) -> Reply {
    let text = "it could not be stored; an operator finds it in berth.dead, with the reason, as message";
    let problem = Problem::new(500, format!("{text} {}", delivery.message_id));
    Reply { status: 500, body: serde_json::to_value(problem).expect("a problem is plain JSON") }
}

fn refusal(reply: &Reply) -> String {
    match serde_json::from_value::<Problem>(reply.body.clone()) {
        Ok(problem) => problem.to_string(),
        Err(_) => format!("refused with status {}", reply.status),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the core panicked: {}", text.unwrap_or("without a word"))
}
