//! Statements that are prepared once per connection, and transactions that go out in one flush.
//!
//! tokio-postgres sends a statement when its future is first polled, and the server answers in that
//! order. So futures are polled here one after the other, and COMMIT leaves only when all before it
//! have left: a statement that cannot be encoded is never sent, and without it the rest must not
//! be committed.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_util::future::{BoxFuture, FutureExt, MaybeDone, maybe_done};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::{commit, facts, lease, load};

/// The leader's statements on one connection, by their text.
pub struct Prepared(HashMap<&'static str, Statement>);

impl Prepared {
    pub async fn new(client: &Client) -> Result<Self, Error> {
        let lists = [
            lease::LEADERS,
            load::STATEMENTS,
            facts::STATEMENTS,
            commit::STATEMENTS,
            commit::JOBS,
            commit::CONTAINERS,
            commit::DEVICES,
            commit::QUEUES,
        ];
        let texts: Vec<&'static str> = lists.into_iter().flatten().map(|&(_, sql)| sql).collect();
        let calls = texts.iter().map(|sql| maybe_done(client.prepare(sql).boxed())).collect();
        let pairs = texts.iter().zip(all(calls).await).map(|(&sql, result)| Ok((sql, result?)));
        Ok(Self(pairs.collect::<Result<_, Error>>()?))
    }

    pub fn get(&self, sql: &'static str) -> &Statement {
        self.0.get(sql).expect("every statement of the leader stands in its module's STATEMENTS")
    }
}

pub type Param<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// A statement of a transaction with its values.
pub struct Step<'a> {
    pub sql: &'static str,
    pub params: Vec<Param<'a>>,
    /// How many rows it must change, where it could be another number.
    pub expect: Option<u64>,
}

/// What became of a transaction.
pub enum Sent {
    Committed,
    /// A statement failed, the first one to do so; nothing was written.
    RolledBack {
        sql: &'static str,
        error: Error,
    },
    /// It was committed, and a statement changed another number of rows than it had to.
    Miscounted {
        sql: &'static str,
        expected: u64,
        changed: u64,
    },
    /// BEGIN or COMMIT failed, or the connection did.
    Lost(Error),
}

type Call<'a, T> = MaybeDone<BoxFuture<'a, Result<T, Error>>>;

/// Sends BEGIN, the steps and COMMIT in one flush, and awaits all answers.
pub async fn transaction(client: &Client, prepared: &Prepared, steps: &[Step<'_>]) -> Sent {
    let mut calls = vec![simple(client, "BEGIN")];
    calls.extend(steps.iter().map(|step| maybe_done(execute(client, prepared, step).boxed())));
    let all_left = send(&mut calls).await;
    calls.push(simple(client, if all_left { "COMMIT" } else { "ROLLBACK" }));
    let mut answers = all(calls).await;
    let end = answers.pop().expect("COMMIT or ROLLBACK was pushed last");
    judge(steps, answers, end)
}

fn judge(steps: &[Step<'_>], answers: Vec<Result<u64, Error>>, end: Result<u64, Error>) -> Sent {
    let mut answers = answers.into_iter();
    if let Some(Err(error)) = answers.next() {
        return Sent::Lost(error);
    }
    let mut miscounted = None;
    for (step, answer) in steps.iter().zip(answers) {
        match (answer, step.expect) {
            // It comes from the server, or it was never sent: either way COMMIT did nothing.
            (Err(error), _) if error.code().is_some() || is_unbindable(&error) => {
                return Sent::RolledBack { sql: step.sql, error };
            }
            (Err(error), _) => return Sent::Lost(error),
            (Ok(changed), Some(expected)) if changed != expected => {
                miscounted.get_or_insert(Sent::Miscounted { sql: step.sql, expected, changed });
            }
            (Ok(_), _) => {}
        }
    }
    match end {
        Ok(_) => miscounted.unwrap_or(Sent::Committed),
        Err(error) => Sent::Lost(error),
    }
}

/// Whether a value could not be encoded, so that its statement was never sent. What kind of error it
/// is tokio-postgres tells by its text alone.
pub(super) fn is_unbindable(error: &Error) -> bool {
    let text = error.to_string();
    text.starts_with("error serializing parameter") || text.starts_with("error encoding message")
}

fn simple<'a>(client: &'a Client, sql: &'static str) -> Call<'a, u64> {
    maybe_done(client.batch_execute(sql).map(|done| done.map(|()| 0)).boxed())
}

async fn execute(client: &Client, prepared: &Prepared, step: &Step<'_>) -> Result<u64, Error> {
    let params: Vec<&(dyn ToSql + Sync)> = step.params.iter().map(|p| &**p as _).collect();
    client.execute(prepared.get(step.sql), &params).await
}

/// Polls every call once, in order. False when one failed at once: it was not sent.
async fn send<T>(calls: &mut [Call<'_, T>]) -> bool {
    poll_fn(|cx| {
        let mut all_left = true;
        for call in &mut *calls {
            all_left &=
                Pin::new(&mut *call).poll(cx).is_pending() || !matches!(call, MaybeDone::Done(Err(_)));
        }
        Poll::Ready(all_left)
    })
    .await
}

/// Polls the calls in their order until all are done. One that is not polled would hold up the
/// answers to those behind it.
pub(super) async fn all<T>(mut calls: Vec<Call<'_, T>>) -> Vec<Result<T, Error>> {
    poll_fn(|cx| {
        let mut ready = true;
        for call in &mut calls {
            ready &= Pin::new(call).poll(cx).is_ready();
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.iter_mut().map(|call| Pin::new(call).take_output().expect("all are done")).collect()
}
