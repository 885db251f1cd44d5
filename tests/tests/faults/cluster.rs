//! Two schedulers and two workers on services of the test's own, each of which can be broken alone.
//!
//! A program that ends by itself is started again after a moment, as systemd does with its `Restart=`;
//! that is counted. A worker keeps its state folder for the whole test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_tests::accounts::Accounts;
use berth_tests::berth::START;
use berth_tests::broker::Vhost;
use berth_tests::database::TestDatabase;
use berth_tests::port::free_port;
use berth_tests::process::{Process, install_crypto};
use berth_tests::proxy::Proxy;
use berth_tests::services::{Part, Services};
use berth_tests::until::until;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::{ADMIN, Api};
use crate::plan::{FENCE_AFTER, LOST_AFTER, WORKERS};

const SCHEDULERS: usize = 2;
/// systemd's default is 100 ms; a program that cannot start should not fill its log here.
const REVIVE_EVERY: Duration = Duration::from_millis(500);

pub struct Cluster {
    // In the order in which they are to end.
    pub schedulers: Vec<Mutex<Program>>,
    pub workers: Vec<Mutex<Program>>,
    pub wires: Vec<Proxy>,
    pub database: TestDatabase,
    accounts: Accounts,
    _vhost: Vhost,
    pub api: Api,
    pub services: Arc<Services>,
    rabbitmq_starts: Mutex<()>,
    postgres_starts: Mutex<()>,
    dockerd_starts: Mutex<()>,
}

/// A program with all that is needed to start it again.
pub struct Program {
    pub process: Process,
    binary: &'static str,
    arguments: &'static [&'static str],
    variables: Vec<(&'static str, String)>,
    services: Arc<Services>,
    /// Dead because the test wants it.
    pub down: bool,
    /// How often it ended by itself.
    pub revived: usize,
}

impl Program {
    fn start(
        services: &Arc<Services>,
        binary: &'static str,
        arguments: &'static [&'static str],
        variables: Vec<(&'static str, String)>,
        log: &Path,
    ) -> Mutex<Self> {
        let process = Process::start(binary, arguments, &variables, log);
        let services = Arc::clone(services);
        let this = Self { process, binary, arguments, variables, services, down: false, revived: 0 };
        this.note();
        Mutex::new(this)
    }

    /// By its log's name, which no two share.
    fn note(&self) {
        let name =
            self.process.log.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        self.services.note_program(&name, self.process.pid());
    }

    pub fn kill(&mut self) {
        self.down = true;
        self.process.kill();
    }

    pub fn restart(&mut self) {
        self.down = false;
        self.process =
            Process::start(self.binary, self.arguments, &self.variables, &self.process.log.clone());
    }

    fn revive(&mut self) {
        if !self.down && self.process.ended().is_some() {
            self.revived += 1;
            self.restart();
        }
    }
}

impl Cluster {
    /// Everything runs and takes jobs.
    pub async fn start(services: &Arc<Services>, folder: &Path, name: &str) -> Self {
        install_crypto();
        let at = &services.endpoints;
        let vhost = Vhost::create_on(&at.amqp_url, &at.rabbitmq_api).await;
        let database = TestDatabase::create_on(&at.database_url).await;
        commit_for_good(&database).await;
        let accounts = Accounts::new(&at.rabbitmq_api, &vhost.url);
        let amqp_url = accounts.make(&format!("scheduler-{name}")).await;
        let ports: Vec<u16> = (0..SCHEDULERS).map(|_| free_port()).collect();
        let schedulers = ports.iter().enumerate().map(|(n, port)| {
            let log = folder.join(format!("scheduler-{}.log", n + 1));
            Program::start(
                services,
                "berth-scheduler",
                &["serve"],
                scheduler(&database.url, &amqp_url, *port),
                &log,
            )
        });
        let api = Api::new(ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect());
        let mut this = Self {
            schedulers: schedulers.collect(),
            workers: Vec::new(),
            wires: Vec::new(),
            database,
            api,
            services: Arc::clone(services),
            accounts,
            _vhost: vhost,
            rabbitmq_starts: Mutex::default(),
            postgres_starts: Mutex::default(),
            dockerd_starts: Mutex::default(),
        };
        for n in 0..WORKERS {
            this.add_worker(folder, &format!("{name}-{}", n + 1)).await;
        }
        this.devices_up().await;
        this
    }

    async fn add_worker(&mut self, folder: &Path, device: &str) {
        let url = self.accounts.make(&format!("device-{device}")).await;
        let broker = server_of(&url);
        let wire = Proxy::open(broker).await;
        let url = url.replace(&format!("@{broker}"), &format!("@127.0.0.1:{}", wire.port));
        let log = folder.join(format!("worker-{}.log", self.workers.len() + 1));
        let folder: PathBuf = folder.join(device);
        std::fs::create_dir_all(&folder).expect("a folder for the worker");
        let variables = vec![
            ("BERTH_AMQP_URL", url),
            ("BERTH_DEVICE", device.to_owned()),
            ("BERTH_GPUS", "4xT4".into()),
            // Ten containers at once: many sleep, and more would only wait for this machine's processors.
            ("BERTH_CPUS", "2.5".into()),
            ("BERTH_STATE_DIR", folder.join("state").display().to_string()),
            ("BERTH_DATA_DIR", folder.join("data").display().to_string()),
            ("DOCKER_HOST", self.services.endpoints.docker_host.clone()),
        ];
        self.wires.push(wire);
        self.workers.push(Program::start(&self.services, "berth-worker", &[], variables, &log));
    }

    pub async fn devices_up(&self) {
        until(START, "both devices are up", async || {
            let (_, body) = self.api.get("/v1/devices").await;
            let up =
                body["items"].as_array().map_or(0, |all| all.iter().filter(|d| d["state"] == "up").count());
            if up == WORKERS { Ok(()) } else { Err(body) }
        })
        .await;
    }

    /// Held from a service's kill until it answers again.
    pub fn starts(&self, part: Part) -> &Mutex<()> {
        match part {
            Part::RabbitMq => &self.rabbitmq_starts,
            Part::Postgres => &self.postgres_starts,
            Part::Dockerd(_) => &self.dockerd_starts,
        }
    }

    /// Which scheduler leads; the first one when nobody says so.
    pub async fn leader(&self) -> usize {
        self.api.leader().await.unwrap_or(0)
    }

    /// Starts again what ended by itself, until `stop`.
    pub async fn revive(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(REVIVE_EVERY)).await.is_some() {
            // One that is being stopped or killed is held, and nobody's affair here.
            self.programs()
                .filter_map(|program| program.try_lock().ok())
                .for_each(|mut program| program.revive());
        }
    }

    pub fn programs(&self) -> impl Iterator<Item = &Mutex<Program>> {
        self.schedulers.iter().chain(&self.workers)
    }
}

/// The tests' server answers a COMMIT before it has written anything, which a `kill -9` of its processes
/// would show as lost jobs. Written, though not yet on the disk, survives that.
async fn commit_for_good(database: &TestDatabase) {
    let client = database.client().await;
    client
        .batch_execute("ALTER ROLE CURRENT_USER SET synchronous_commit = on")
        .await
        .expect("the role is ours");
}

fn scheduler(database_url: &str, amqp_url: &str, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("BERTH_DATABASE_URL", database_url.to_owned()),
        ("BERTH_AMQP_URL", amqp_url.to_owned()),
        ("BERTH_LISTEN", format!("127.0.0.1:{port}")),
        ("BERTH_ADMIN_TOKEN", ADMIN.to_owned()),
        ("BERTH_FENCE_AFTER", FENCE_AFTER.as_secs().to_string()),
        ("BERTH_LOST_AFTER", LOST_AFTER.as_secs().to_string()),
    ]
}

/// Of a URL as `dev/services` writes it: an address with a port.
fn server_of(url: &str) -> SocketAddr {
    let (_, rest) = url.rsplit_once('@').expect("the URL has an account");
    let address = rest.split('/').next().unwrap_or_default();
    address.parse().expect("an address of this machine with a port")
}

impl Drop for Cluster {
    /// The guards that the workers have started end with the lease files that they watch.
    fn drop(&mut self) {
        for program in self.schedulers.iter_mut().chain(&mut self.workers) {
            program.get_mut().process.kill();
        }
        for worker in &mut self.workers {
            let state = worker.get_mut().variables.iter().find(|(name, _)| *name == "BERTH_STATE_DIR");
            if let Some((_, state)) = state {
                // Where there is none, there is no guard.
                let _ = std::fs::remove_file(Path::new(state).join("lease"));
            }
        }
    }
}
