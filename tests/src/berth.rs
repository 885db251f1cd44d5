//! A whole Berth: scheduler, workers, and somebody who asks.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::broker::Vhost;
use crate::database::TestDatabase;
use crate::port::{by_port, free_port};
use crate::process::{Process, install_crypto};
use crate::setting;
use crate::until::until;

/// How long a part may take to come up, on a busy machine with two cores.
pub const START: Duration = Duration::from_secs(60);
/// How long a job may take that does nothing.
pub const SHORT: Duration = Duration::from_secs(60);

/// The token of the user `admin`.
const ADMIN: &str = "berth_test_admin_token_0123456789abcdef";

/// Where a Berth finds its services: those of all tests, unless a test says otherwise.
pub struct Site {
    pub amqp: String,
    /// The management API of that broker.
    pub api: String,
    pub database: String,
    /// Ports of this machine by which scheduler and workers reach them; a test's own clients go
    /// straight.
    pub broker_port: Option<u16>,
    pub database_port: Option<u16>,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            amqp: setting("BERTH_TEST_AMQP_URL"),
            api: setting("BERTH_TEST_RABBITMQ_API"),
            database: setting("BERTH_TEST_DATABASE_URL"),
            broker_port: None,
            database_port: None,
        }
    }
}

pub struct Berth {
    // In the order in which they are to end.
    pub schedulers: Vec<Process>,
    pub workers: Vec<Worker>,
    pub folder: PathBuf,
    pub url: String,
    pub accounts: Accounts,
    pub vhost: Vhost,
    pub database: TestDatabase,
    /// The scheduler's account; its URL goes by the site's port.
    scheduler_amqp: String,
    /// Variables of its scheduler besides those of every test.
    settings: Vec<(&'static str, String)>,
    pub site: Site,
    client: reqwest::Client,
    /// Part of every device's name: containers of other tests are other tests' affair.
    name: String,
}

pub struct Worker {
    pub device: String,
    pub process: Process,
    variables: Vec<(&'static str, String)>,
}

impl Berth {
    /// A scheduler, and no worker yet.
    pub async fn start() -> Self {
        Self::start_at(Site::default()).await
    }

    /// The same, with a scheduler that gives devices up soon: fenced and lost after so many whole seconds, of
    /// which the second are 10 more at least.
    pub async fn impatient(fence_after: Duration, lost_after: Duration) -> Self {
        let times = [("BERTH_FENCE_AFTER", fence_after), ("BERTH_LOST_AFTER", lost_after)];
        let settings = times.map(|(name, time)| (name, time.as_secs().to_string()));
        Self::start_with(Site::default(), settings.to_vec()).await
    }

    /// The same, with services that the test names.
    pub async fn start_at(site: Site) -> Self {
        Self::start_with(site, Vec::new()).await
    }

    async fn start_with(site: Site, settings: Vec<(&'static str, String)>) -> Self {
        install_crypto();
        let (vhost, database) =
            tokio::join!(Vhost::create_on(&site.amqp, &site.api), TestDatabase::create_on(&site.database));
        let name = name_in_run();
        let accounts = Accounts::new(&site.api, &vhost.url);
        let scheduler_amqp = wired(accounts.make(&format!("scheduler-{name}")).await, site.broker_port);
        let folder = folder_of_tests().join(format!("berth-test-{name}"));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let mut berth = Self {
            schedulers: Vec::new(),
            workers: Vec::new(),
            folder,
            url: format!("http://127.0.0.1:{}", free_port()),
            accounts,
            vhost,
            database,
            scheduler_amqp,
            settings,
            site,
            client: reqwest::Client::new(),
            name,
        };
        berth.start_scheduler();
        berth.ready().await;
        berth
    }

    /// With one worker that declares `gpus`.
    pub async fn with_worker(gpus: &str) -> Self {
        let mut berth = Self::start().await;
        berth.add_worker(gpus, &[]).await;
        berth
    }

    /// Starts a scheduler at the test's address.
    pub fn start_scheduler(&mut self) {
        let variables = self.scheduler_variables();
        self.schedulers.push(self.scheduler_with(&variables));
    }

    /// The variables of the test's scheduler.
    #[must_use]
    pub fn scheduler_variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("BERTH_DATABASE_URL", wired(self.database.url.clone(), self.site.database_port)),
            ("BERTH_AMQP_URL", self.scheduler_amqp.clone()),
            ("BERTH_LISTEN", self.url.trim_start_matches("http://").to_owned()),
            ("BERTH_ADMIN_TOKEN", ADMIN.to_owned()),
        ];
        variables.extend(self.settings.iter().cloned());
        variables
    }

    #[must_use]
    pub fn scheduler_with(&self, variables: &[(&str, String)]) -> Process {
        let log = self.folder.join(format!("scheduler-{}.log", self.schedulers.len()));
        Process::start("berth-scheduler", &["serve"], variables, &log)
    }

    pub async fn ready(&self) {
        until(START, "the scheduler is ready", async || match self.get("/readyz").await {
            (StatusCode::OK, body) => Ok(body),
            other => Err((other, self.logs())),
        })
        .await;
    }

    /// Starts a worker and waits until its device takes jobs. Returns the device's name.
    pub async fn add_worker(&mut self, gpus: &str, more: &[(&'static str, String)]) -> String {
        let n = self.workers.len() + 1;
        let device = format!("{}-{n}", self.name);
        let folder = self.folder.join(&device);
        let amqp = self.accounts.make(&format!("device-{device}")).await;
        let mut variables = vec![
            ("BERTH_AMQP_URL", wired(amqp, self.site.broker_port)),
            ("BERTH_DEVICE", device.clone()),
            ("BERTH_GPUS", gpus.to_owned()),
            ("BERTH_CPUS", "64".into()),
            ("BERTH_STATE_DIR", folder.join("state").display().to_string()),
            ("BERTH_DATA_DIR", folder.join("data").display().to_string()),
            ("BERTH_TELEMETRY_INTERVAL", "1".into()),
        ];
        variables.extend_from_slice(more);
        let process = start_worker(&variables, &folder);
        self.workers.push(Worker { device: device.clone(), process, variables });
        self.device_up(&device).await;
        device
    }

    pub async fn device_up(&self, device: &str) {
        until(START, "the device is up", async || {
            let (_, body) = self.get(&format!("/v1/devices/{device}")).await;
            if body["state"] == "up" { Ok(()) } else { Err((body, self.logs())) }
        })
        .await;
    }

    /// Starts the worker anew that was killed.
    pub fn restart_worker(&mut self, n: usize) {
        let folder = self.folder.join(&self.workers[n].device);
        self.workers[n].process = start_worker(&self.workers[n].variables, &folder);
    }

    /// Starts a second worker under the name of one that runs, with a state folder of its own.
    #[must_use]
    pub fn start_twin(&self, n: usize) -> Process {
        let folder = self.folder.join(format!("{}-twin", self.workers[n].device));
        let mut variables = self.workers[n].variables.clone();
        variables.push(("BERTH_STATE_DIR", folder.join("state").display().to_string()));
        start_worker(&variables, &folder)
    }

    // ---- asking ----

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.request(Method::GET, path, ADMIN, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.request(Method::POST, path, ADMIN, Some(body.to_string())).await
    }

    /// A request of the administrator, for tests that look at more than status and body.
    pub fn as_admin(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(ADMIN)
    }

    /// Status 0… is given as 503 with the client's own error: the test polls, or fails with it.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<String>,
    ) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        match request.send().await {
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
            }
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, json!(format!("{error:?}"))),
        }
    }

    /// Submits a job that must be accepted; returns its id. `image` is the tests' own.
    pub async fn submit(&self, mut spec: Value) -> String {
        if spec.get("image").is_none() {
            spec["image"] = json!(setting("BERTH_TEST_IMAGE"));
        }
        let (status, body) = self.post("/v1/jobs", spec).await;
        assert_eq!(status, StatusCode::CREATED, "{body:#}\n{}", self.logs());
        body["id"].as_str().expect("a job has an id").to_owned()
    }

    /// Submits a shell script with some GPUs.
    pub async fn submit_script(&self, script: &str, gpus: u32) -> String {
        let resources = json!({"gpus": gpus, "cpus": 0.25, "memory_mb": 64});
        self.submit(json!({"command": ["sh", "-c", script], "resources": resources})).await
    }

    /// `berth …` of the administrator; what it wrote to standard output.
    ///
    /// # Panics
    /// When its exit code is another one.
    pub fn cli(&self, arguments: &[&str], code: i32) -> String {
        let variables = [("BERTH_URL", self.url.as_str()), ("BERTH_TOKEN", ADMIN)];
        let output = crate::process::run("berth", arguments, &variables);
        assert_eq!(output.status.code(), Some(code), "berth {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Gives a job a command.
    pub async fn command(&self, id: &str, body: Value) -> (StatusCode, Value) {
        self.post(&format!("/v1/jobs/{id}/commands"), body).await
    }

    /// Makes a user; returns a token of theirs.
    pub async fn user(&self, name: &str) -> String {
        let (status, body) = self.post("/v1/users", json!({"name": name})).await;
        assert_eq!(status, StatusCode::CREATED, "{body:#}");
        let (status, body) = self.post(&format!("/v1/users/{name}/tokens"), json!({})).await;
        assert_eq!(status, StatusCode::CREATED, "{body:#}");
        body["token"].as_str().expect("a token").to_owned()
    }

    /// What a job has written.
    pub async fn log(&self, id: &str) -> String {
        let request = self.as_admin(Method::GET, &format!("/v1/jobs/{id}/logs"));
        request.send().await.expect("an answer").text().await.expect("a text")
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).await.1
    }

    /// Waits until the job has this status.
    pub async fn job_is(&self, id: &str, status: &str, limit: Duration) -> Value {
        until(limit, &format!("the job is {status}"), async || {
            let job = self.job(id).await;
            if job["status"] == status { Ok(job) } else { Err((job, self.logs())) }
        })
        .await
    }

    /// Waits for the end, and for this outcome.
    pub async fn job_ends(&self, id: &str, outcome: &str, limit: Duration) -> Value {
        let job = self.job_is(id, "exited", limit).await;
        assert_eq!(job["outcome"], outcome, "{job:#}\n{}", self.logs());
        job
    }

    /// The containers of a job on the real Docker, running or not, by name.
    #[must_use]
    pub fn containers(&self, job: &str) -> Vec<String> {
        docker_ps(&format!("label=berth.job={job}"), "{{.Names}}")
    }

    /// What the programs have logged; for failures.
    #[must_use]
    pub fn logs(&self) -> String {
        let all = self.schedulers.iter().chain(self.workers.iter().map(|w| &w.process));
        all.map(|p| format!("--- {}\n{}\n", p.log.display(), last_lines(&p.output(), 30))).collect()
    }
}

/// By a wire, where there is one.
fn wired(url: String, port: Option<u16>) -> String {
    match port {
        Some(port) => by_port(&url, port),
        None => url,
    }
}

/// Begins with the run's name: `dev/test` removes the containers of a test that was killed by it.
#[must_use]
pub fn name_in_run() -> String {
    let own = &uuid::Uuid::new_v4().simple().to_string()[..8];
    std::env::var("BERTH_TEST_RUN").map_or_else(|_| format!("t{own}"), |run| format!("r{run}-{own}"))
}

/// `dev/test` names a folder that it removes.
#[must_use]
pub fn folder_of_tests() -> PathBuf {
    std::env::var_os("BERTH_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn start_worker(variables: &[(&'static str, String)], folder: &std::path::Path) -> Process {
    std::fs::create_dir_all(folder).expect("a folder for the worker");
    Process::start("berth-worker", &[], variables, &folder.join("worker.log"))
}

fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}

fn docker_ps(filter: &str, format: &str) -> Vec<String> {
    let output = Command::new("docker").args(["ps", "-a", "--filter", filter, "--format", format]).output();
    let output = output.expect("docker's command is installed");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

impl Drop for Berth {
    fn drop(&mut self) {
        for scheduler in &mut self.schedulers {
            scheduler.kill();
        }
        for worker in &mut self.workers {
            worker.process.kill();
            let left = docker_ps(&format!("label=berth.device={}", worker.device), "{{.ID}}");
            if !left.is_empty() {
                // Failing to remove them is told by docker itself.
                let _ = Command::new("docker").arg("rm").arg("-fv").args(&left).output();
            }
        }
        if std::thread::panicking() {
            eprintln!("the logs are in {} (dev/test: .berth/test-failed-log)", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
