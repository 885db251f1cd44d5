//! A log as it is now, as plain text.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use berth_common::job::AttemptStatus;
use berth_common::message::LogPiece;

use super::reader::Reader;
use crate::http::refusal::Refusal;
use crate::store::read::attempts::Place;

/// Everything that the log of an attempt has now; nothing for a job that was not placed yet.
///
/// # Errors
/// 404 for an attempt that does not exist or whose log is gone, 503 when its device does not answer.
pub async fn answer(mut reader: Reader, attempt: Option<u32>) -> Result<Response, Refusal> {
    let Some(place) = reader.place(attempt).await? else {
        return match attempt {
            Some(n) => Err(Refusal::new(404, format!("the job has no attempt {n} with this replica"))),
            None => Ok(text(Body::empty())),
        };
    };
    match reader.next(&place, Duration::ZERO).await? {
        Some(first) => Ok(text(rest(reader, place, first))),
        None => match place.status {
            AttemptStatus::Pending | AttemptStatus::Running => Ok(text(Body::empty())),
            AttemptStatus::Exited => Err(Refusal::new(
                404,
                format!("device {} has no log of attempt {}", place.device, place.attempt),
            )),
        },
    }
}

fn text(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// What to do next.
enum Step {
    Give(LogPiece),
    Ask,
    Done,
}

/// The first piece, and those after it. When the device falls silent in the middle the answer breaks
/// off, so that nobody takes a part for the whole.
fn rest(reader: Reader, place: Place, first: LogPiece) -> Body {
    Body::from_stream(futures_util::stream::unfold(
        (reader, place, Step::Give(first)),
        |(mut reader, place, step)| async move {
            let piece = match step {
                Step::Done => return None,
                Step::Give(piece) => piece,
                Step::Ask => match reader.next(&place, Duration::ZERO).await {
                    Ok(Some(piece)) => piece,
                    Ok(None) => return None,
                    Err(refusal) => {
                        let error = io::Error::other(refusal.into_problem());
                        return Some((Err(error), (reader, place, Step::Done)));
                    }
                },
            };
            let next = if piece.end || piece.text.is_empty() { Step::Done } else { Step::Ask };
            Some((Ok(Bytes::from(piece.text)), (reader, place, next)))
        },
    ))
}
