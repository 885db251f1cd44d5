//! A stage for tests of the whole worker program: a real RabbitMQ (a virtual host per test), a real
//! Docker, the worker's binary, and a scripted leader on the other side of the broker.
//!
//! Whatever a test made goes with its stage, also when it fails: containers, worker, virtual host.

mod broker;
mod leader;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_worker::docker::Docker;
use uuid::Uuid;

pub use broker::Vhost;
pub use leader::{Leader, start_order};
pub use wire::{Far, Wire};

/// Longer than anything here takes on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// What a test needs from its surroundings.
pub fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is missing: run `make test`, or set BERTH_TEST_IMAGE, BERTH_TEST_AMQP_URL and BERTH_TEST_RABBITMQ_API")
    })
}

pub struct Stage {
    pub device: String,
    pub image: String,
    pub dir: PathBuf,
    pub vhost: Vhost,
    worker: Option<Child>,
    flags: Vec<String>,
    docker_host: Option<String>,
}

impl Stage {
    /// With a worker that runs and a leader that has heard its hello.
    pub async fn new(flags: &[&str]) -> (Self, Leader) {
        let mut stage = Self::without_worker(flags).await;
        let mut leader = Leader::new(&stage.vhost.url(), &stage.device).await;
        stage.start_worker();
        leader.hello().await;
        (stage, leader)
    }

    pub async fn without_worker(flags: &[&str]) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        // dev/test removes, by these two, what a test that was killed leaves.
        let run = std::env::var("BERTH_TEST_RUN").map_or_else(|_| "test".into(), |run| format!("r{run}"));
        let above = std::env::var_os("BERTH_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let device = format!("{run}-{}", &id[..12]);
        let dir = above.join(format!("berth-{device}"));
        std::fs::create_dir_all(&dir).expect("a folder for the test");
        Self {
            image: environment("BERTH_TEST_IMAGE"),
            vhost: Vhost::make(&device).await,
            dir,
            device,
            worker: None,
            docker_host: None,
            flags: flags.iter().map(ToString::to_string).collect(),
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Its worker finds Docker at the end of this wire.
    pub fn docker_by(&mut self, wire: &Wire) {
        self.docker_host = Some(format!("tcp://127.0.0.1:{}", wire.port));
    }

    pub fn start_worker(&mut self) {
        self.start_worker_at(&self.vhost.url());
    }

    pub fn start_worker_at(&mut self, amqp_url: &str) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("worker.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-worker"));
        if let Some(host) = &self.docker_host {
            command.env("DOCKER_HOST", host);
        }
        let child = command
            .args(["--device", &self.device, "--gpus", "2xT4", "--amqp-url", amqp_url])
            .arg("--state-dir")
            .arg(self.state_dir())
            .args(&self.flags)
            .env("BERTH_LOG", "info,berth_worker=debug")
            .stderr(log.expect("a log file"))
            .stdin(Stdio::null())
            .spawn();
        self.worker = Some(child.expect("the worker's binary runs"));
    }

    pub fn worker_pid(&self) -> u32 {
        self.worker.as_ref().expect("it runs").id()
    }

    /// As a crash would.
    pub fn kill_worker(&mut self) {
        let mut worker = self.worker.take().expect("it runs");
        worker.kill().expect("it can be killed");
        worker.wait().expect("it is gone");
    }

    /// Asks it to end, and waits: whether it said that all was well.
    pub async fn terminate_worker(&mut self) -> bool {
        let mut worker = self.worker.take().expect("it runs");
        let pid = worker.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        let status = tokio::task::spawn_blocking(move || worker.wait().expect("it is gone")).await;
        status.expect("waited").success()
    }

    pub fn docker(&self) -> Docker {
        Docker::connect().expect("DOCKER_HOST can be read")
    }

    pub fn worker_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("worker.log")).unwrap_or_default()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        #[allow(clippy::print_stderr, reason = "a test that fails shows what the worker saw")]
        if std::thread::panicking() {
            eprintln!("--- the worker's log\n{}", self.worker_log());
            // What Docker was asked for in the worker's last moment must show in its list.
            std::thread::sleep(Duration::from_secs(2));
        }
        let label = format!("label=berth.device={}", self.device);
        let listed = Command::new("docker").args(["ps", "-aq", "--filter", &label]).output();
        let ids = listed.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
        for id in ids.split_whitespace() {
            let _ = Command::new("docker").args(["rm", "-fv", id]).output();
        }
        remove(&self.dir);
    }
}

/// Containers write as root into the data folder; a test that is not root leaves that behind. Without its
/// lease the guard leaves, whether it can ask Docker or not.
fn remove(dir: &Path) {
    let _ = std::fs::remove_file(dir.join("state/lease"));
    let _ = std::fs::remove_dir_all(dir);
}

/// Polls until `look` finds what it looks for; fails with what it saw last.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(begin.elapsed() < LIMIT, "never: {what}; last seen: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
