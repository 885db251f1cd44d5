//! A RabbitMQ of one test's own, for what would disturb all others: alarms, and short limits.
//!
//! It is an instance in the folder of the tests, where `dev/test` finds and removes it when the test itself
//! was killed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::berth::{Site, folder_of_tests, name_in_run};
use crate::services::run;
use crate::setting;

/// Acknowledgements are awaited for five seconds instead of 30 minutes, and looked after each second.
const SHORT_LIMITS: &str = "[{rabbit, [{consumer_timeout, 5000}, {channel_tick_interval, 1000}]}].\n";

/// The broker; ends with this value.
pub struct OwnBroker {
    instance: PathBuf,
}

impl OwnBroker {
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start() -> Self {
        let instance = folder_of_tests().join(format!("berth-broker-{}", name_in_run())).join("services");
        std::fs::create_dir_all(&instance).expect("a folder for the broker");
        std::fs::write(instance.join("advanced.config"), SHORT_LIMITS).expect("its configuration");
        let this = Self { instance };
        let mut command = this.script("services", &["start"]);
        // With a database that is there already none is started.
        command.arg("--for-tests").env("BERTH_DATABASE_URL", setting("BERTH_TEST_DATABASE_URL"));
        run(command).expect("the broker starts");
        this
    }

    /// This broker, and everybody's database.
    ///
    /// # Panics
    /// When it was not started.
    #[must_use]
    pub fn site(&self) -> Site {
        let text =
            std::fs::read_to_string(self.instance.join("test.env")).expect("dev/services tells where it is");
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.expect("it is in test.env").to_owned()
        };
        Site { amqp: of("BERTH_TEST_AMQP_URL"), api: of("BERTH_TEST_RABBITMQ_API"), ..Site::default() }
    }

    /// `rabbitmqctl`.
    ///
    /// # Panics
    /// When it fails.
    pub fn control(&self, arguments: &[&str]) {
        let mut command = self.script("broker-ctl", &[]);
        command.args(arguments);
        run(command).expect("rabbitmqctl works");
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.instance.join("log/rabbitmq.log")).unwrap_or_default()
    }

    /// A script of `dev/` for this instance; `verb` stands before it.
    fn script(&self, name: &str, verb: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev").join(name));
        for variable in ["BERTH_DATABASE_URL", "BERTH_AMQP_URL"] {
            command.env_remove(variable);
        }
        command.args(verb).arg(&self.instance);
        command
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        let folder = self.instance.parent().expect("it has one");
        if let Err(problem) = run(self.script("part", &["remove"])) {
            eprintln!("{} was left over: {problem}", folder.display());
        } else {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}
