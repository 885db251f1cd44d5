//! Following a container's output from Docker into its log, through lost connections.

use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Writer;
use crate::docker::{Docker, DockerError, Stage};

/// Pieces that are written at once. One batch gathers while another is written: with Docker's 16 KiB
/// a piece, 8 MiB of memory at most.
const BATCH: usize = 256;
/// Pause before a lost connection is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// A connection that brought nothing for so long may be dead: it is made anew.
const IDLE: Duration = Duration::from_secs(300);
/// Rounds over what Docker still has of a container that has ended.
const CATCH_UP: u32 = 3;
/// Docker ends the output a moment before it says that the container has ended.
const ENDING: Duration = Duration::from_secs(2);

/// Writes what the container `name` puts out until it has ended and all of it is kept, or `stop`.
/// Gives the log back, complete or not.
pub async fn follow(docker: &Docker, name: &str, mut writer: Writer, stop: &CancellationToken) -> Writer {
    let mut rounds_after_end = 0;
    loop {
        let read = read(docker, name, writer, stop).await;
        writer = read.0;
        if let Err(error) = &read.1 {
            tracing::debug!(container = name, %error, "following its log was interrupted");
        }
        if stop.is_cancelled() {
            return writer;
        }
        match look(docker, name, &writer, read.1.is_ok()).await {
            Rest::Nothing => return writer,
            Rest::Lines if rounds_after_end == CATCH_UP => {
                tracing::warn!(container = name, "the end of its log is lost: Docker does not give it");
                return writer;
            }
            Rest::Lines => rounds_after_end += 1,
            Rest::Running => {
                stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }
}

/// What there is still to come.
enum Rest {
    Nothing,
    /// It has ended, and Docker has lines that are not kept.
    Lines,
    /// It has not ended, as far as is known.
    Running,
}

/// `complete`: the output was read to its end. That is not always everything: of a container that
/// wrote faster than it could be read, Docker (20.10) ends the output when it turns to another file.
async fn look(docker: &Docker, name: &str, writer: &Writer, complete: bool) -> Rest {
    if complete {
        // Whatever it answers, the container itself is looked at next.
        let _ = tokio::time::timeout(ENDING, docker.wait(name)).await;
    }
    match docker.inspect(name).await.map(|container| container.map(|container| container.stage)) {
        Ok(None | Some(Stage::Removing)) => Rest::Nothing,
        Ok(Some(Stage::Exited(_))) if complete => match docker.last_piece(name).await {
            Ok(Some(last)) if !writer.has(&last) => Rest::Lines,
            Ok(_) => Rest::Nothing,
            Err(_) => Rest::Running,
        },
        Ok(Some(Stage::Exited(_) | Stage::Created { .. } | Stage::Running { .. })) | Err(_) => Rest::Running,
    }
}

/// Reads until the output ends. Docker sends every line by itself: while one batch is written, the
/// next one gathers.
async fn read(
    docker: &Docker,
    name: &str,
    mut writer: Writer,
    stop: &CancellationToken,
) -> (Writer, Result<(), DockerError>) {
    let mut pieces = std::pin::pin!(docker.follow(name, writer.resume()));
    let (to, mut from) = mpsc::channel(BATCH);
    let reading = async move {
        loop {
            let piece = match stop.run_until_cancelled(tokio::time::timeout(IDLE, pieces.next())).await {
                Some(Ok(Some(piece))) => piece,
                Some(Err(_)) => Err(DockerError::Away("nothing for a while".into())),
                Some(Ok(None)) | None => return,
            };
            // An error is the last thing that comes.
            let last = piece.is_err();
            if to.send(piece).await.is_err() || last {
                return;
            }
        }
    };
    let writing = async move {
        let mut batch = Vec::with_capacity(BATCH);
        while from.recv_many(&mut batch, BATCH).await > 0 {
            let (pieces, error) = split(&mut batch);
            writer = write(writer, pieces, name).await;
            if let Some(error) = error {
                return (writer, Err(error));
            }
        }
        (writer, Ok(()))
    };
    tokio::join!(reading, writing).1
}

async fn write(mut writer: Writer, pieces: Vec<LogOutput>, name: &str) -> Writer {
    let work = tokio::task::spawn_blocking(move || {
        let written = writer.write(&pieces);
        (writer, written)
    });
    let (writer, written) =
        work.await.expect("writing does not panic, and a runtime that ends runs no more tasks");
    if let Err(error) = written {
        tracing::warn!(container = name, %error, "a part of its log is lost: the disk takes no more");
    }
    writer
}

/// What came before the first error, and that error.
fn split<T>(batch: &mut Vec<Result<T, DockerError>>) -> (Vec<T>, Option<DockerError>) {
    let mut pieces = Vec::with_capacity(batch.len());
    for piece in batch.drain(..) {
        match piece {
            Ok(piece) => pieces.push(piece),
            Err(error) => return (pieces, Some(error)),
        }
    }
    (pieces, None)
}
