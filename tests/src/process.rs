//! Programs of this workspace as processes: started from the target folder, killed by pid.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;

/// A running program; killed when it is dropped.
pub struct Process {
    child: Child,
    pub log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments` and exactly these variables besides `PATH` and `HOME`.
    ///
    /// # Panics
    /// When the program was not built.
    #[must_use]
    pub fn start(program: &str, arguments: &[&str], variables: &[(&str, String)], log: &Path) -> Self {
        let path = binary(program);
        assert!(
            path.exists(),
            "{} was not built: run `make test`, or `cargo build --workspace`",
            path.display()
        );
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let err = out.try_clone().expect("a second handle on the log file");
        let mut command = Command::new(path);
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(out).stderr(err);
        for name in ["PATH", "HOME", "DOCKER_HOST"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        for (name, value) in variables {
            command.env(name, value);
        }
        Self { child: command.spawn().expect("the program starts"), log: log.to_owned() }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {name} to {}", self.pid());
    }

    /// Its exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().map(|status| status.code().unwrap_or(-1))
    }

    /// What it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The target folder's programs stand beside a measurement, and above a test's own folder `deps`.
/// Runs `program` to its end, with these variables besides the test's own.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(binary(program));
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{program} was not built: {error}"))
}

fn binary(program: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let folder = own.parent().expect("programs are built in target/<profile>");
    folder.parent().filter(|_| folder.ends_with("deps")).unwrap_or(folder).join(program)
}

/// reqwest is built without a cryptography provider of its own.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another part of the test may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
