//! The program itself, with an environment of its own.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::server::Server;

/// Far more than any of this takes; a test that hangs fails.
pub const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn assert(&self, code: i32, out: &str) -> &Self {
        assert_eq!((self.code, self.out.as_str()), (code, out), "stderr: {}", self.err);
        self
    }

    pub fn says(&self, part: &str) -> &Self {
        assert!(self.err.contains(part), "{part:?} is not in stderr: {}", self.err);
        self
    }
}

/// Without any of the settings of whoever runs the tests.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.args(args).env_remove("BERTH_URL").env_remove("BERTH_TOKEN").env("XDG_CONFIG_HOME", "/nowhere");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub fn at(server: &Server, args: &[&str]) -> Command {
    let mut command = command(args);
    command.env("BERTH_URL", &server.url).env("BERTH_TOKEN", "secret-token");
    command
}

pub async fn run(server: &Server, args: &[&str]) -> Done {
    done(at(server, args).spawn().expect("berth starts")).await
}

pub async fn done(child: Child) -> Done {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = output.expect("berth ends in time").expect("it ran");
    Done {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Ctrl-C.
pub async fn interrupt(child: &Child) {
    let pid = child.id().expect("it runs").to_string();
    let sent =
        Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().await.expect("kill runs");
    assert!(sent.success());
}
