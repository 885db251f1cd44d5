//! RabbitMQ, PostgreSQL and a dockerd of one test's own, each of which can be killed and started again.
//!
//! The other tests share what `dev/test` started; a test that kills services cannot. These are
//! an instance of `dev/part` in the test's folder: their data outlives a kill, `dev/test` finds and
//! removes them when the test itself was killed, and nothing of the machine's own is touched.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A part that can die by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    RabbitMq,
    Postgres,
    Dockerd(LiveRestore),
}

/// Whether containers outlive their dockerd. Said at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LiveRestore {
    On,
    Off,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Postgres => "postgres",
            Self::Dockerd(_) => "dockerd",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::RabbitMq | Self::Postgres | Self::Dockerd(LiveRestore::Off) => &[],
            Self::Dockerd(LiveRestore::On) => &["--live-restore"],
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The services; removed with this value.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The server: tests make databases of their own on it.
    pub database_url: String,
    pub amqp_url: String,
    pub rabbitmq_api: String,
    pub image: String,
    /// As in `DOCKER_HOST`.
    pub docker_host: String,
}

pub struct Services {
    folder: PathBuf,
    pub endpoints: Endpoints,
}

impl Services {
    /// Whether this user may start a dockerd: root, and allowed to make namespaces.
    #[must_use]
    pub fn possible() -> bool {
        script("part").arg("possible").output().is_ok_and(|output| output.status.success())
    }

    /// Starts all of them, below `folder`, which must be there.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    pub fn start(folder: &Path, dockerd: LiveRestore) -> Self {
        let instance = folder.join("services");
        std::fs::create_dir_all(&instance).expect("a folder for the services");
        // From here on a panic removes what was started.
        let mut this = Self { folder: instance, endpoints: Endpoints::none() };
        let printed = run(this.start_command(Part::Dockerd(dockerd))).expect("dockerd starts");
        let docker_host = printed.trim().to_owned();
        let mut command = script("services");
        command.arg("start").arg(&this.folder).arg("--for-tests").env("DOCKER_HOST", &docker_host);
        run(command).expect("RabbitMQ and PostgreSQL start");
        let text =
            std::fs::read_to_string(this.folder.join("test.env")).expect("dev/services tells where they are");
        this.endpoints = Endpoints::read(&text, docker_host);
        this
    }

    /// `kill -9`. Returns when it is gone.
    ///
    /// # Panics
    /// When that fails.
    pub fn kill(&self, part: Part) {
        let mut command = script("part");
        command.arg("kill").arg(&self.folder).arg(part.name());
        run(command).expect("it can be killed");
    }

    /// Starts what was killed. The command returns when the part answers.
    #[must_use]
    pub fn start_command(&self, part: Part) -> Command {
        let mut command = script("part");
        command.arg("start").arg(&self.folder).arg(part.name()).args(part.options());
        command
    }

    /// Notes a program of the test as a part of the instance, the way `dev/lib.sh` knows its parts: by pid and
    /// start time. Whoever removes what a killed test left ends it too.
    ///
    /// # Panics
    /// When the note cannot be written.
    pub fn note_program(&self, name: &str, pid: u32) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        // The command's name is in parentheses and may contain anything; the start time is the 20th after it.
        let started =
            stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(19)).unwrap_or_default();
        let run = self.folder.join("run");
        std::fs::write(run.join(format!("{name}.start")), format!("{} {started}\n", boot.trim()))
            .expect("noted");
        std::fs::write(run.join(format!("{name}.pid")), format!("{pid}\n")).expect("noted");
    }

    /// What the containers' processes are grouped under, whatever dockerd knows of them.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        // The name of dockerd's state folder ends with the same hash.
        let hash = self.endpoints.docker_host.rsplit_once("/berth-docker-").map(|(_, rest)| rest);
        let hash = hash
            .and_then(|rest| rest.split('/').next())
            .expect("unix:///run/berth-docker-<hash>/docker.sock");
        format!("berth-{hash}")
    }
}

impl Drop for Services {
    /// Their logs go up into the test's folder, which a test that failed leaves.
    fn drop(&mut self) {
        let (logs, up) = (self.folder.join("log"), self.folder.join(".."));
        for log in std::fs::read_dir(logs).into_iter().flatten().flatten() {
            // A log that cannot be kept is missed by whoever reads the others.
            let _ = std::fs::copy(log.path(), up.join(log.file_name()));
        }
        let mut command = script("part");
        command.arg("remove").arg(&self.folder);
        if let Err(problem) = run(command) {
            eprintln!("{} was left over: {problem}", self.folder.display());
        }
    }
}

impl Endpoints {
    fn none() -> Self {
        Self::read("", String::new())
    }

    fn read(env: &str, docker_host: String) -> Self {
        let lines: HashMap<&str, &str> = env.lines().filter_map(|line| line.split_once('=')).collect();
        let of = |name: &str| lines.get(name).map_or_else(String::new, |value| (*value).to_owned());
        Self {
            database_url: of("BERTH_TEST_DATABASE_URL"),
            amqp_url: of("BERTH_TEST_AMQP_URL"),
            rabbitmq_api: of("BERTH_TEST_RABBITMQ_API"),
            image: of("BERTH_TEST_IMAGE"),
            docker_host,
        }
    }
}

/// A script of `dev/`, which needs nothing of the environment but the search path.
fn script(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev").join(name);
    let mut command = Command::new(path);
    for variable in ["BERTH_DATABASE_URL", "BERTH_AMQP_URL", "DOCKER_HOST"] {
        command.env_remove(variable);
    }
    command
}

/// What it printed, or what it complained of.
///
/// # Errors
/// When it cannot be run, or fails.
pub fn run(mut command: Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| error.to_string())?;
    if status.success() {
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    } else {
        Err(format!("{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr)))
    }
}
