//! The numbers of one schedule, and what of them must not be.

use std::collections::BTreeMap;
use std::fmt;

/// So many examples of one kind of wrong are shown; the others are counted.
const SHOWN: usize = 3;

#[derive(Debug, Default)]
pub struct Report {
    pub answered: usize,
    pub outcomes: BTreeMap<String, usize>,
    pub faults: BTreeMap<String, usize>,
    pub starts: usize,
    pub most_alive: usize,
    /// Attempts that ended by a fault, of all jobs, as far as a job remembers.
    pub faults_charged: i64,
    pub kills_asked: usize,
    pub kills_accepted: usize,
    /// Programs that ended by themselves and were started again.
    pub revived: usize,
    /// What must not be, with examples.
    pub wrong: BTreeMap<&'static str, Vec<String>>,
}

/// What is counted, and must be 0.
const MUST_BE_NONE: [&str; 17] = [
    "jobs answered and not found",
    "jobs that nobody submitted",
    "jobs that did not end",
    "rows that the API shows otherwise",
    "outcomes that nothing explains",
    "kills accepted and not done",
    "kills refused while the job was not over",
    "double starts",
    "containers of one job alive together",
    "containers that the database does not know",
    "reservations left",
    "containers that did not end in the database",
    "GPUs in use in the history",
    "commands left pending",
    "containers left in Docker",
    "processes left",
    "panics",
];

impl Report {
    /// `what` is one of [`MUST_BE_NONE`].
    pub fn note(&mut self, what: &'static str, example: String) {
        debug_assert!(MUST_BE_NONE.contains(&what), "{what} is not in the list that is printed");
        self.wrong.entry(what).or_default().push(example);
    }

    pub fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |of: &BTreeMap<String, usize>| {
            of.iter().map(|(what, n)| format!("{what} {n}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(
            f,
            "  faults               {}: {}",
            self.faults.values().sum::<usize>(),
            list(&self.faults)
        )?;
        writeln!(f, "  jobs answered        {}: {}", self.answered, list(&self.outcomes))?;
        writeln!(f, "  container starts     {}", self.starts)?;
        writeln!(f, "  most alive per job   {}", self.most_alive)?;
        writeln!(f, "  faults charged       {}", self.faults_charged)?;
        writeln!(f, "  kills                {} asked, {} accepted", self.kills_asked, self.kills_accepted)?;
        writeln!(f, "  programs revived     {}", self.revived)?;
        for what in MUST_BE_NONE {
            let found = self.wrong.get(what).into_iter().flatten();
            writeln!(f, "  {what:<44} {}", found.clone().count())?;
            for example in found.take(SHOWN) {
                writeln!(f, "      {example}")?;
            }
        }
        Ok(())
    }
}
