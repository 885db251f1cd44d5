//! Every statement of the scheduler can be prepared, keeps to the subset, and is known to these
//! tests.

use std::path::{Path, PathBuf};

use berth_scheduler::store::statements;

use crate::database::{Fresh, with_database};
use crate::{literals, subset};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// (where, text) of every statement in a file.
fn in_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in files(&root().join(folder), "sql") {
        let text = read(&file);
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let statements = code.join("\n");
        let statements = statements.split(";\n").map(str::trim).filter(|s| !s.is_empty());
        found.extend(statements.map(|sql| (name.clone(), sql.trim_end_matches(';').to_owned())));
    }
    found
}

fn in_constants() -> Vec<(String, String)> {
    let name = |(module, name, sql): (&str, &str, &str)| (format!("{module}::{name}"), sql.to_owned());
    statements().into_iter().map(name).collect()
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    with_database(async |fresh: Fresh| {
        let client = fresh.migrated().await.client;
        let mut wrong = Vec::new();
        for (module, name, sql) in statements() {
            if let Err(error) = client.prepare(sql).await {
                let why = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
                wrong.push(format!("{module}::{name}: {why}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    })
    .await;
}

#[test]
fn every_statement_keeps_to_the_subset_of_all_engines() {
    let all = [in_constants(), in_files("sql/controller"), in_files("sql/worker")].concat();
    let tell = |(place, sql): &(String, String)| {
        subset::broken_rules(sql).into_iter().map(|rule| format!("{place}: {rule}")).collect::<Vec<_>>()
    };
    let wrong: Vec<String> = all.iter().flat_map(tell).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_statement_is_known() {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let known = [in_constants(), in_files("sql/controller")].concat();
    let known: Vec<String> = known.iter().map(|(_, sql)| one_line(sql)).collect();
    let mut unknown = Vec::new();
    for file in files(&root().join("scheduler/src"), "rs") {
        let source = read(&file);
        let found = literals::strings(&source).into_iter().filter(|text| literals::looks_like_sql(text));
        let strange = found.filter(|text| !known.iter().any(|sql| sql.contains(&one_line(text))));
        unknown.extend(strange.map(|text| format!("{}: {text}", file.display())));
    }
    assert!(unknown.is_empty(), "not in a list of STATEMENTS:\n{}", unknown.join("\n"));
    assert!(known.len() > 50, "only {} statements: the lists are not found any more", known.len());
}

/// Citus is not there when tests run; that its file forgets no table and no key can be seen without.
#[test]
fn every_table_and_foreign_key_is_known_to_the_file_for_citus() {
    let citus = read(&root().join("sql/engines/citus.sql"));
    let word = |sql: &str, place: usize| sql.split_whitespace().nth(place).unwrap_or_default().to_owned();
    for (file, sql) in in_files("sql/controller") {
        if sql.starts_with("CREATE TABLE ") {
            let table = word(&sql, 2);
            let kind = if table.starts_with("core.") { "reference_table" } else { "distributed_table" };
            assert!(citus.contains(&format!("SELECT create_{kind}('{table}'")), "{file}: {table}");
        }
        if sql.contains(" FOREIGN KEY ") {
            let (table, key) = (word(&sql, 2), word(&sql, 5));
            assert!(citus.contains(&format!("{sql};")), "{file}: {sql}");
            assert!(
                citus.contains(&format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {key};")),
                "{key}"
            );
        }
    }
}
