//! What is kept of a schedule that went wrong, for whoever looks for the cause.

use std::path::Path;

use berth_tests::recording::Sighting;

use crate::cluster::Cluster;
use crate::load::Submitted;

/// What a person needs to find the cause, beside the logs of the programs.
pub async fn keep(cluster: &Cluster, submitted: &[Submitted], sightings: &[Sighting], folder: &Path) {
    let database = cluster.database.client().await;
    let mut lines = String::new();
    for table in ["sched.jobs", "sched.containers", "sched.commands", "sched.device_state", "hist.job_events"]
    {
        let rows = database.query(&format!("SELECT row_to_json(t)::text FROM {table} t"), &[]).await;
        for row in rows.unwrap_or_default() {
            lines.push_str(&format!("{table} {}\n", row.get::<_, String>(0)));
        }
    }
    let seen: String = sightings.iter().map(|sighting| format!("{sighting:?}\n")).collect();
    let answers: String = submitted.iter().map(|job| format!("{job:?}\n")).collect();
    for (file, text) in [("tables.log", lines), ("docker-seen.log", seen), ("answers.log", answers)] {
        if let Err(error) = std::fs::write(folder.join(file), text) {
            eprintln!("{file} is not kept: {error}");
        }
    }
}

/// The lines of the programs' logs that tell of a panic.
pub fn panics(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            // The services' own logs, and the jobs' output in the workers' state folders, are none of ours.
            let others = path.ends_with("services") || path.ends_with("state");
            if path.is_dir() && !others {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let panics = log.lines().filter(|line| line.contains("panicked at"));
                found.extend(panics.map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
    found
}
