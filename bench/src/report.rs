//! A measurement's figures, each beside its limit: a table on the terminal, a file for machines.

use std::path::PathBuf;

use anyhow::Context;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_postgres::NoTls;

use crate::series::Series;

/// Everything that one measurement has to say.
pub struct Report {
    name: &'static str,
    /// What was done, for whoever reads the table.
    about: String,
    figures: Vec<Figure>,
    steps: Vec<(&'static str, f64)>,
    more: Map<String, Value>,
}

/// One thing of Berth's beside its limit.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub what: String,
    pub unit: &'static str,
    pub berth: f64,
    pub limit: f64,
    /// What the limit is.
    pub limit_is: String,
    pub goal: Goal,
}

/// What Berth ÷ limit ought to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing was promised.
    None,
}

impl Figure {
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.berth / self.limit
    }

    fn verdict(&self) -> String {
        match self.goal {
            Goal::AtMost(most) => format!("≤ {most}: {}", met_or_missed(self.ratio() <= most)),
            Goal::AtLeast(least) => format!("≥ {least}: {}", met_or_missed(self.ratio() >= least)),
            Goal::None => "-".into(),
        }
    }
}

impl Report {
    #[must_use]
    pub fn new(name: &'static str, about: String) -> Self {
        Self { name, about, figures: Vec::new(), steps: Vec::new(), more: Map::new() }
    }

    pub fn figure(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// A part of the way, in milliseconds: where the time went.
    pub fn step(&mut self, what: &'static str, ms: f64) {
        self.steps.push((what, ms));
    }

    /// The samples behind a figure, for the file.
    pub fn samples(&mut self, of: &str, series: &Series) {
        self.note(&format!("samples_{of}"), json!(series.samples()));
    }

    /// Something that the figures depend on, for the file.
    pub fn note(&mut self, key: &str, value: Value) {
        self.more.insert(key.into(), value);
    }

    /// Says on what database the figures were taken.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn database(&mut self, url: &str) -> anyhow::Result<()> {
        let (fsync, commit, version) = ask_database(url).await.context("the database")?;
        self.about += &format!("; the database: fsync {fsync}, synchronous_commit {commit}");
        self.note("database", json!({"fsync": fsync, "synchronous_commit": commit, "version": version}));
        Ok(())
    }

    pub fn print(&self) {
        println!("\n{}: {}", self.name, self.about);
        let mut table = table(&["", "BERTH", "LIMIT", "", "RATIO", "GOAL", "THE LIMIT IS"], &[1, 2, 4]);
        for figure in &self.figures {
            table.add_row([
                figure.what.clone(),
                amount(figure.berth),
                amount(figure.limit),
                figure.unit.into(),
                format!("{:.2}", figure.ratio()),
                figure.verdict(),
                figure.limit_is.clone(),
            ]);
        }
        println!("{}", table.trim_fmt());
        if !self.steps.is_empty() {
            let mut table = self::table(&["WHERE THE TIME GOES (p50)", "MS"], &[1]);
            for (what, ms) in &self.steps {
                table.add_row([(*what).to_owned(), amount(*ms)]);
            }
            println!("{}", table.trim_fmt());
        }
    }

    /// Writes `target/bench/<name>.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> anyhow::Result<()> {
        let own = std::env::current_exe().context("where this program is")?;
        let target = own.ancestors().nth(2).context("it is built in target/<profile>")?;
        let folder: PathBuf = target.join("bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let file = folder.join(format!("{}.json", self.name));
        let text = serde_json::to_string_pretty(&self.json()).context("a report is plain JSON")?;
        std::fs::write(&file, text + "\n").with_context(|| format!("writing {}", file.display()))
    }

    fn json(&self) -> Value {
        let figures: Vec<Value> = self.figures.iter().map(figure_json).collect();
        let steps: Map<String, Value> =
            self.steps.iter().map(|(what, ms)| ((*what).into(), json!(ms))).collect();
        let mut all = Map::from_iter([
            ("name".into(), json!(self.name)),
            ("at".into(), json!(jiff::Timestamp::now())),
            ("about".into(), json!(self.about)),
            ("figures".into(), json!(figures)),
            ("cpus".into(), json!(std::thread::available_parallelism().ok())),
            ("load_1m".into(), json!(load())),
        ]);
        if !steps.is_empty() {
            all.insert("steps_ms".into(), json!(steps));
        }
        all.extend(self.more.clone());
        Value::Object(all)
    }
}

fn figure_json(figure: &Figure) -> Value {
    let mut json = json!(figure);
    json["ratio"] = json!(figure.ratio());
    match figure.goal {
        Goal::AtMost(most) => json["met"] = json!(figure.ratio() <= most),
        Goal::AtLeast(least) => json["met"] = json!(figure.ratio() >= least),
        Goal::None => {}
    }
    json
}

fn met_or_missed(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn table(headings: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if numbers.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Three digits that mean something.
fn amount(value: f64) -> String {
    match value.abs() {
        big if big >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Whoever reads the figures later ought to know whether the machine was busy.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// What the database says about itself: how safely it writes decides every figure with a commit in it.
async fn ask_database(url: &str) -> anyhow::Result<(String, String, String)> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connecting to it")?;
    let connection = tokio::spawn(connection);
    let settings = "SELECT current_setting('fsync'), current_setting('synchronous_commit'), version()";
    let row = client.query_one(settings, &[]).await.context("asking for its settings")?;
    drop(client);
    connection.await.context("the connection ends with its client")?.context("ending the connection")?;
    Ok((row.get(0), row.get(1), row.get(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_its_goal_is_met() {
        let mut figure = Figure {
            what: "p50".into(),
            unit: "ms",
            berth: 260.0,
            limit: 200.0,
            limit_is: "docker run".into(),
            goal: Goal::AtMost(1.3),
        };
        assert_eq!(
            (figure.verdict().as_str(), figure_json(&figure)["met"].as_bool()),
            ("≤ 1.3: met", Some(true))
        );
        figure.berth = 261.0;
        assert_eq!(figure.verdict(), "≤ 1.3: MISSED");
        figure.goal = Goal::AtLeast(1.3);
        assert_eq!(figure.verdict(), "≥ 1.3: met");
        figure.goal = Goal::None;
        assert_eq!((figure.verdict().as_str(), &figure_json(&figure)["met"]), ("-", &Value::Null));
    }

    #[test]
    fn amounts_have_three_digits() {
        assert_eq!([0.5, 12.34, 123.4].map(amount), ["0.50", "12.3", "123"]);
    }
}
