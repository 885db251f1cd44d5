//! The body of a submission from a file and flags.
//!
//! What must always hold: it has only what was given, so that every default is the server's; and the
//! server alone judges it.

use std::io::Read;
use std::path::Path;

use berth_common::spec::Array;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::failure::Failure;
use crate::spec_args::SpecArgs;

/// The server refuses larger bodies.
const MAX_FILE: u64 = 1024 * 1024;

/// # Errors
/// A file that cannot be read, or that is no specification.
pub fn body(args: &SpecArgs) -> Result<Value, Failure> {
    let mut spec = match &args.file {
        Some(path) => read_spec(&read_text(path)?)
            .map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))?,
        None => Map::new(),
    };
    overlay(&mut spec, args)?;
    Ok(Value::Object(spec))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let read = |from: &mut dyn Read| {
        let mut text = String::new();
        from.take(MAX_FILE + 1).read_to_string(&mut text).map(|_| text)
    };
    let text = if path == Path::new("-") {
        read(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file))
    };
    let text = text.map_err(|error| Failure::Usage(format!("cannot read {}: {error}", path.display())))?;
    if text.len() as u64 > MAX_FILE {
        return Err(Failure::Usage(format!("{} is larger than 1 MiB", path.display())));
    }
    Ok(text)
}

/// JSON where it begins like an object or a list, else YAML.
fn read_spec(text: &str) -> Result<Map<String, Value>, String> {
    let value: Value = if text.trim_start().starts_with(['{', '[']) {
        serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?
    } else {
        serde_saphyr::from_str(text).map_err(|error| format!("no YAML: {error}"))?
    };
    match value {
        Value::Object(spec) => Ok(spec),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err("a specification is an object with at least \"image\"".into())
        }
    }
}

/// Puts what the flags say over `spec`: single values replace, variables, labels and ports are
/// merged by name, mounts are added.
fn overlay(spec: &mut Map<String, Value>, args: &SpecArgs) -> Result<(), Failure> {
    set(spec, "image", args.image.as_ref());
    set(spec, "name", args.name.as_ref());
    set(spec, "queue", args.queue.as_ref());
    set(spec, "workdir", args.workdir.as_ref());
    set(spec, "priority", args.priority);
    set(spec, "retries", args.retries);
    set(spec, "timeout_s", args.timeout.map(|time| time.as_secs()));
    set(spec, "hold", args.hold.then_some(true));
    set(spec, "preemptible", args.preemptible.then_some(true));
    set(spec, "replicas", args.replicas);
    set(spec, "array", args.array.as_ref().map(array));
    set(spec, "command", (!args.argv.is_empty()).then_some(&args.argv));
    let mut resources = Map::new();
    set(&mut resources, "gpus", args.gpus);
    set(&mut resources, "gpu_type", (!args.gpu_type.is_empty()).then_some(&args.gpu_type));
    set(&mut resources, "cpus", args.cpus);
    set(&mut resources, "memory_mb", args.memory.or(args.memory_mb));
    set(&mut resources, "shm_mb", args.shm_mb);
    merge(spec, "resources", resources)?;
    merge(spec, "env", pairs(&args.env))?;
    merge(spec, "labels", pairs(&args.label))?;
    merge(spec, "constraints", pairs(&args.constraint))?;
    merge(spec, "ports", pairs(&args.port))?;
    let mounts =
        args.mount.iter().map(|m| json!({"source": m.source, "target": m.target, "read_only": m.read_only}));
    append(spec, "mounts", mounts.collect())
}

fn array(array: &Array) -> Map<String, Value> {
    let mut fields = Map::new();
    set(&mut fields, "count", Some(array.count));
    set(&mut fields, "max_running", array.max_running);
    fields
}

/// Adds jobs that must have succeeded before.
///
/// # Errors
/// When `after` of the file is no list.
pub fn add_after(body: &mut Value, after: &[Uuid]) -> Result<(), Failure> {
    match body {
        Value::Object(spec) => append(spec, "after", after.iter().map(|id| json!(id)).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Ok(()),
    }
}

/// Whether the server will make an array of it.
#[must_use]
pub fn makes_array(body: &Value) -> bool {
    !body["array"].is_null() || body["matrix"].as_object().is_some_and(|matrix| !matrix.is_empty())
}

fn set(spec: &mut Map<String, Value>, field: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        spec.insert(field.into(), json!(value));
    }
}

fn pairs<V: Clone + Into<Value>>(pairs: &[(String, V)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
}

fn merge(spec: &mut Map<String, Value>, field: &str, more: Map<String, Value>) -> Result<(), Failure> {
    if more.is_empty() {
        return Ok(());
    }
    match spec.entry(field).or_insert_with(|| json!({})) {
        Value::Object(present) => present.extend(more),
        null @ Value::Null => *null = Value::Object(more),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Failure::Usage(format!("{field} of the file is no object")));
        }
    }
    Ok(())
}

fn append(spec: &mut Map<String, Value>, field: &str, more: Vec<Value>) -> Result<(), Failure> {
    if more.is_empty() {
        return Ok(());
    }
    match spec.entry(field).or_insert_with(|| json!([])) {
        Value::Array(present) => present.extend(more),
        null @ Value::Null => *null = Value::Array(more),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            return Err(Failure::Usage(format!("{field} of the file is no list")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn args(flags: &[&str]) -> SpecArgs {
        let line = ["berth", "submit"].iter().chain(flags);
        match Cli::try_parse_from(line).expect("parses").command {
            Command::Submit(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_sent_that_was_not_given() {
        assert_eq!(body(&args(&[])).expect("a body"), json!({}));
        assert_eq!(body(&args(&["--image", "i"])).expect("a body"), json!({"image": "i"}));
    }

    #[test]
    fn every_flag_has_its_field() {
        let flags = "--image i --name n --queue q --gpus 2 --gpu-type T4 --gpu-type A100-80GB --cpus 7.5 --memory 4g \
             --shm-mb 64 --env A=b --env C=d=e --mount data:/d:ro --port ssh=22 --label k=v --constraint rack=b2 --preemptible --priority 120 --timeout 2h \
             --retries 3 --replicas 2 --array 5%2 --hold --workdir /w -- python train.py --lr 0.1";
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let expected = json!({
            "image": "i", "name": "n", "queue": "q", "command": ["python", "train.py", "--lr", "0.1"],
            "env": {"A": "b", "C": "d=e"}, "workdir": "/w",
            "resources": {"gpus": 2, "gpu_type": ["T4", "A100-80GB"], "cpus": 7.5, "memory_mb": 4096, "shm_mb": 64},
            "priority": 120, "timeout_s": 7200, "retries": 3, "replicas": 2, "hold": true,
            "array": {"count": 5, "max_running": 2}, "ports": {"ssh": 22},
            "mounts": [{"source": "data", "target": "/d", "read_only": true}], "labels": {"k": "v"},
            "constraints": {"rack": "b2"}, "preemptible": true,
        });
        let sent = body(&args(&flags)).expect("a body");
        assert_eq!(sent, expected);
        berth_common::spec::from_value(sent).expect("the server understands it");
    }

    #[test]
    fn flags_win_over_the_file_and_keep_the_rest_of_it() {
        let mut spec = read_spec(
            "image: i\nenv: {A: file, B: file}\nresources:\n  gpus: 4\n  memory_mb: 512\nmounts:\n- {source: a, target: /a}\n",
        )
        .expect("YAML");
        overlay(&mut spec, &args(&["--image", "j", "--gpus", "1", "--env", "A=flag", "--mount", "b:/b"]))
            .expect("fits");
        assert_eq!(
            Value::Object(spec),
            json!({
                "image": "j", "env": {"A": "flag", "B": "file"}, "resources": {"gpus": 1, "memory_mb": 512},
                "mounts": [{"source": "a", "target": "/a"}, {"source": "b", "target": "/b", "read_only": false}],
            })
        );
    }

    #[test]
    fn jobs_to_come_after_are_added_to_those_of_the_file() {
        let mut body = json!({"image": "i", "after": [Uuid::nil()]});
        add_after(&mut body, &[Uuid::max()]).expect("a list");
        assert_eq!(body["after"], json!([Uuid::nil(), Uuid::max()]));
        assert!(add_after(&mut json!({"after": "x"}), &[Uuid::nil()]).is_err());
        assert!(
            makes_array(&json!({"matrix": {"A": ["1"]}})) && makes_array(&json!({"array": {"count": 2}}))
        );
        assert!(!makes_array(&json!({"matrix": {}, "array": null})));
    }

    #[test]
    fn files_are_json_or_yaml_and_nothing_else() {
        assert_eq!(read_spec(r#" {"image": "i"}"#), read_spec("# a job\nimage: i\n"));
        for bad in ["{", "[]", "", "just text", "- image: i", "a: [", "\u{0}"] {
            assert!(read_spec(bad).is_err(), "{bad:?}");
        }
        let mut spec = read_spec("env: 3").expect("YAML");
        assert!(matches!(overlay(&mut spec, &args(&["--env", "A=b"])), Err(Failure::Usage(_))));
    }
}
