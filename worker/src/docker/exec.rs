//! Running something in a container, beside its program.

use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{Docker, DockerError};

/// Its output ends a moment before Docker knows its exit code.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecEnd {
    Exited(i64),
    /// It was not at its end by then.
    Late,
}

/// A command that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecProcess {
    /// On the daemon's host.
    pub pid: i64,
    /// The container's id.
    pub container: String,
}

impl Docker {
    /// Prepares a command in a container; its id at Docker. Nothing runs yet.
    ///
    /// # Errors
    /// As Docker refuses it: `NotFound`, `Conflict` where the container does not run.
    pub async fn exec_prepare(&self, name: &str, argv: &[String]) -> Result<String, DockerError> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.to_vec()),
            ..Default::default()
        };
        Ok(self.api.create_exec(name, config).await?.id)
    }

    /// Runs it until `deadline` and gives what it writes to `take`.
    ///
    /// # Errors
    /// `Away`: it may have run, or run on. Otherwise as Docker refuses it.
    pub async fn exec_run(
        &self,
        id: &str,
        deadline: Instant,
        mut take: impl FnMut(&[u8]),
    ) -> Result<ExecEnd, DockerError> {
        let late = |_| DockerError::Away("the command was not started in time".into());
        let started = timeout_at(deadline, self.api.start_exec(id, None)).await.map_err(late)??;
        let StartExecResults::Attached { mut output, input: _input } = started else {
            return Err(DockerError::Away("the command's output was not given".into()));
        };
        loop {
            match timeout_at(deadline, output.next()).await {
                Ok(Some(Ok(piece))) => take(&piece.into_bytes()),
                // A connection that broke says nothing about the command.
                Ok(Some(Err(_)) | None) => break,
                Err(_) => return Ok(ExecEnd::Late),
            }
        }
        self.exec_end(id, deadline).await
    }

    async fn exec_end(&self, id: &str, deadline: Instant) -> Result<ExecEnd, DockerError> {
        loop {
            let looked = self.api.inspect_exec(id).await.map_err(DockerError::from);
            match looked {
                Ok(seen) if seen.running == Some(false) => {
                    let code = seen.exit_code;
                    return code.map(ExecEnd::Exited).ok_or_else(|| DockerError::Away("no exit code".into()));
                }
                Ok(_) if Instant::now() >= deadline => return Ok(ExecEnd::Late),
                Err(DockerError::Away(words)) if Instant::now() >= deadline => {
                    return Err(DockerError::Away(words));
                }
                Ok(_) | Err(DockerError::Away(_)) => tokio::time::sleep(LOOK_AGAIN).await,
                // A daemon that was restarted has forgotten it.
                Err(error) => return Err(DockerError::Away(error.to_string())),
            }
        }
    }

    /// Its process, while it runs.
    ///
    /// # Errors
    /// When the daemon does not answer or does not know it.
    pub async fn exec_process(&self, id: &str) -> Result<Option<ExecProcess>, DockerError> {
        let seen = self.api.inspect_exec(id).await?;
        let runs = seen.running == Some(true);
        let process = seen.pid.zip(seen.container_id).filter(|(pid, _)| runs && *pid > 0);
        Ok(process.map(|(pid, container)| ExecProcess { pid, container }))
    }
}
