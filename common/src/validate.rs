//! What can be said of a specification without knowing the cluster.
//!
//! Every limit is a named constant with its reason. What depends on the cluster (an unknown queue,
//! more GPUs than any device has) is for the scheduler's core.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::pointer::escape;
use crate::problem::FieldError;
use crate::spec::JobSpec;

/// No host has more; a number beyond it is a typing mistake, told even when no device is registered.
pub const MAX_GPUS: u32 = 1024;
/// 4,096 CPUs: the largest x86 systems have fewer.
pub const MAX_CPUS_MILLI: i64 = 4_096_000;
/// 64 TiB.
pub const MAX_MEMORY_MB: u64 = 64 * 1024 * 1024;
/// Docker refuses containers below 6 MB.
pub const MIN_MEMORY_MB: u64 = 6;
/// Long enough for every readable name, short enough for a line of a table.
pub const MAX_NAME: usize = 128;
/// What Linux accepts for one argument (`MAX_ARG_STRLEN`), NUL included.
pub const MAX_ARGUMENT: usize = 131_071;
/// Arguments, variables, labels, mounts of one job.
pub const MAX_ENTRIES: usize = 1000;
/// Containers of one job, placed all or none: larger than any gang that has been trained.
pub const MAX_REPLICAS: u32 = 10_000;
/// Each one takes a port of the host.
pub const MAX_PORTS: usize = 100;
/// The range that users may give; operators and admins have 1–1000.
pub const USER_PRIORITY: std::ops::RangeInclusive<i32> = 100..=200;
pub const ADMIN_PRIORITY: std::ops::RangeInclusive<i32> = 1..=1000;
/// Retries of one job.
pub const MAX_RETRIES: u32 = 1000;
/// A year: longer limits are no limits.
pub const MAX_SECONDS: u64 = 366 * 86_400;
/// No job waits for a time before it, and PostgreSQL refuses times long before; the last time that can
/// be read at all, at the end of the year 9999, it stores.
pub const FIRST_TIME: Timestamp = Timestamp::UNIX_EPOCH;
/// Bytes of a whole specification with its defaults, as JSON: what a body over HTTP may be, and the
/// only such limit for one that comes over the broker. It is read again whenever the job is placed.
pub const MAX_SPEC: usize = 1 << 20;

/// Everything that is wrong with `spec`, in the order of its fields; empty when nothing is.
#[must_use]
pub fn check(spec: &JobSpec) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    names(spec, &mut errors);
    process(spec, &mut errors);
    resources(spec, &mut errors);
    policy(spec, &mut errors);
    mounts(spec, &mut errors);
    ports(spec, &mut errors);
    errors.0.extend(crate::array::check(spec));
    unsupported(spec, &mut errors);
    size(spec, &mut errors);
    errors.0
}

struct Errors(Vec<FieldError>);

impl Errors {
    fn refuse_if(&mut self, wrong: bool, pointer: &str, message: impl Into<String>) {
        if wrong {
            self.0.push(FieldError::new(pointer, message));
        }
    }
}

fn names(spec: &JobSpec, errors: &mut Errors) {
    errors.refuse_if(spec.name.len() > MAX_NAME, "/name", format!("at most {MAX_NAME} bytes"));
    errors.refuse_if(has_control(&spec.name), "/name", "control characters are not allowed");
    errors.refuse_if(spec.queue.is_empty(), "/queue", "must not be empty; leave it out for \"default\"");
    errors.refuse_if(has_control(&spec.queue), "/queue", "control characters are not allowed");
    errors.refuse_if(spec.image.is_empty(), "/image", "must name a Docker image, e.g. \"debian:12\"");
    errors.refuse_if(
        spec.image.chars().any(|c| c.is_whitespace() || c.is_control()) || spec.image.len() > 512,
        "/image",
        "must be a Docker image reference: no spaces or control characters, at most 512 bytes",
    );
    for (field, labels) in [("/labels", &spec.labels), ("/constraints", &spec.constraints)] {
        errors.0.extend(check_labels(field, labels));
    }
}

/// Labels of a job or of a device, and those that a job wants of its device.
#[must_use]
pub fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    errors.refuse_if(labels.len() > MAX_ENTRIES, field, format!("at most {MAX_ENTRIES}"));
    for (key, value) in labels {
        let pointer = format!("{field}/{}", escape(key));
        errors.refuse_if(
            key.is_empty() || has_control(key) || key.len() > 63,
            &pointer,
            "a label's key has 1–63 bytes, no control characters",
        );
        errors.refuse_if(
            value.is_empty() || has_control(value) || value.len() > 255,
            &pointer,
            "a label's value has 1–255 bytes, no control characters",
        );
    }
    errors.0
}

fn process(spec: &JobSpec, errors: &mut Errors) {
    errors.refuse_if(
        spec.command.len() > MAX_ENTRIES,
        "/command",
        format!("at most {MAX_ENTRIES} arguments"),
    );
    for (i, argument) in spec.command.iter().enumerate() {
        let pointer = format!("/command/{i}");
        errors.refuse_if(argument.contains('\0'), &pointer, "must not contain a NUL character");
        errors.refuse_if(
            argument.len() > MAX_ARGUMENT,
            &pointer,
            format!("at most {MAX_ARGUMENT} bytes; put longer scripts into a file of the image"),
        );
    }
    errors.refuse_if(
        spec.command.first().is_some_and(String::is_empty),
        "/command/0",
        "the program's name must not be empty",
    );
    errors.refuse_if(spec.env.len() > MAX_ENTRIES, "/env", format!("at most {MAX_ENTRIES} variables"));
    for (key, value) in &spec.env {
        let pointer = format!("/env/{}", escape(key));
        variable(key, value, &pointer, errors);
    }
    for (key, values) in &spec.matrix {
        let pointer = format!("/matrix/{}", escape(key));
        values.iter().for_each(|value| variable(key, value, &pointer, errors));
    }
    if let Some(workdir) = &spec.workdir {
        errors.refuse_if(
            !workdir.starts_with('/') || has_control(workdir),
            "/workdir",
            "must be an absolute path in the container",
        );
    }
}

fn variable(key: &str, value: &str, pointer: &str, errors: &mut Errors) {
    errors.refuse_if(
        key.is_empty() || key.contains('=') || has_control(key),
        pointer,
        "a variable's name must not be empty nor contain '=' or control characters",
    );
    errors.refuse_if(value.contains('\0'), pointer, "must not contain a NUL character");
    errors.refuse_if(reserved_variable(key), pointer, "is set by Berth itself; choose another name");
}

/// Variables that tell the container about its place; a user's value would be a lie.
fn reserved_variable(key: &str) -> bool {
    key.starts_with("BERTH_") || key.starts_with("DLTS_") || key == "NVIDIA_VISIBLE_DEVICES"
}

fn resources(spec: &JobSpec, errors: &mut Errors) {
    let r = &spec.resources;
    errors.refuse_if(r.gpus > MAX_GPUS, "/resources/gpus", format!("at most {MAX_GPUS}"));
    errors.refuse_if(
        r.gpu_type.iter().any(|t| t.is_empty() || has_control(t)),
        "/resources/gpu_type",
        "a GPU type must not be empty",
    );
    errors.refuse_if(
        !r.gpu_type.is_empty() && r.gpus == 0,
        "/resources/gpu_type",
        "is given, but /resources/gpus is 0",
    );
    errors.refuse_if(r.cpus.milli <= 0, "/resources/cpus", "must be larger than 0");
    errors.refuse_if(
        r.cpus.milli > MAX_CPUS_MILLI,
        "/resources/cpus",
        format!("at most {}", MAX_CPUS_MILLI / 1000),
    );
    errors.refuse_if(r.cpus.milli % 10 != 0, "/resources/cpus", "goes in steps of 0.01");
    errors.refuse_if(
        r.memory_mb < MIN_MEMORY_MB,
        "/resources/memory_mb",
        format!("at least {MIN_MEMORY_MB}"),
    );
    errors.refuse_if(r.memory_mb > MAX_MEMORY_MB, "/resources/memory_mb", format!("at most {MAX_MEMORY_MB}"));
    if let Some(shm) = r.shm_mb {
        errors.refuse_if(shm == 0, "/resources/shm_mb", "at least 1; leave it out for Docker's default");
        errors.refuse_if(
            shm > r.memory_mb,
            "/resources/shm_mb",
            "counts towards memory_mb and must not exceed it",
        );
    }
}

fn policy(spec: &JobSpec, errors: &mut Errors) {
    errors.refuse_if(
        !ADMIN_PRIORITY.contains(&spec.priority),
        "/priority",
        "users give 100–200, admins 1–1000",
    );
    errors.refuse_if(spec.timeout_s == Some(0), "/timeout_s", "at least 1 second");
    errors.refuse_if(
        spec.timeout_s.is_some_and(|s| s > MAX_SECONDS),
        "/timeout_s",
        format!("at most {MAX_SECONDS} seconds"),
    );
    errors.refuse_if(spec.expected_s == Some(0), "/expected_s", "at least 1 second");
    errors.refuse_if(
        spec.expected_s.is_some_and(|s| s > MAX_SECONDS),
        "/expected_s",
        format!("at most {MAX_SECONDS} seconds"),
    );
    errors.refuse_if(spec.retries > MAX_RETRIES, "/retries", format!("at most {MAX_RETRIES}"));
    errors.refuse_if(
        spec.not_before.is_some_and(|at| at < FIRST_TIME),
        "/not_before",
        "must be in the years 1970–9999",
    );
    errors.refuse_if(spec.backoff_s > 3600, "/backoff_s", "at most 3600 seconds");
    errors.refuse_if(
        !(1..=MAX_REPLICAS).contains(&spec.replicas),
        "/replicas",
        format!("1 to {MAX_REPLICAS}"),
    );
    errors.refuse_if(spec.after.len() > MAX_ENTRIES, "/after", format!("at most {MAX_ENTRIES}"));
}

fn mounts(spec: &JobSpec, errors: &mut Errors) {
    errors.refuse_if(spec.mounts.len() > MAX_ENTRIES, "/mounts", format!("at most {MAX_ENTRIES}"));
    for (i, mount) in spec.mounts.iter().enumerate() {
        let source = format!("/mounts/{i}/source");
        errors.refuse_if(mount.source.is_empty(), &source, "must name a folder under your data folder");
        errors.refuse_if(
            mount.source.starts_with('/'),
            &source,
            "must be relative to your data folder; absolute paths are refused",
        );
        errors.refuse_if(
            mount.source.split('/').any(|part| part == ".."),
            &source,
            "must stay in your data folder; \"..\" is refused",
        );
        errors.refuse_if(has_control(&mount.source), &source, "control characters are not allowed");
        let target = format!("/mounts/{i}/target");
        errors.refuse_if(
            !mount.target.starts_with('/') || has_control(&mount.target),
            &target,
            "must be an absolute path in the container",
        );
        errors.refuse_if(
            mount.target.trim_end_matches('/').is_empty(),
            &target,
            "must not be the container's root",
        );
        errors.refuse_if(mount.target.split('/').any(|part| part == ".."), &target, "\"..\" is refused");
        errors.refuse_if(
            spec.mounts[..i].iter().any(|other| other.target == mount.target),
            &target,
            "two mounts have this target",
        );
    }
}

fn ports(spec: &JobSpec, errors: &mut Errors) {
    errors.refuse_if(spec.ports.len() > MAX_PORTS, "/ports", format!("at most {MAX_PORTS}"));
    for (name, port) in &spec.ports {
        let pointer = format!("/ports/{}", escape(name));
        errors.refuse_if(
            name.is_empty()
                || name.len() > 16
                || !name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'),
            &pointer,
            "a port's name has 1–16 characters out of a–z, 0–9 and -",
        );
        errors.refuse_if(*port == 0, &pointer, "must be 1–65535: the port in the container");
    }
}

/// Fields of the contract that this version cannot honour yet: refused, never silently ignored.
fn unsupported(spec: &JobSpec, errors: &mut Errors) {
    const NOT_YET: &str = "is not supported by this version of Berth; leave it out";
    errors.refuse_if(!spec.outputs.is_empty(), "/outputs", NOT_YET);
    errors.refuse_if(spec.signal.is_some(), "/signal", NOT_YET);
}

fn size(spec: &JobSpec, errors: &mut Errors) {
    errors.refuse_if(
        spec.to_json().len() > MAX_SPEC,
        "",
        format!(
            "the whole specification has at most {MAX_SPEC} bytes as JSON; put long scripts and data into \
             files of the image or of a mount"
        ),
    );
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use crate::spec::from_value;
    use serde_json::{Value, json};

    fn refused(extra: Value) -> Vec<String> {
        let mut body = json!({"image": "busybox"});
        for (key, value) in extra.as_object().expect("an object") {
            body[key] = value.clone();
        }
        match from_value(body) {
            Ok(_) => Vec::new(),
            Err(problem) => problem.errors.into_iter().map(|e| e.pointer).collect(),
        }
    }

    #[test]
    fn impossible_values_are_refused_by_field() {
        for (body, pointer) in [
            (json!({"image": ""}), "/image"),
            (json!({"image": "a b"}), "/image"),
            (json!({"name": "a\u{7}b"}), "/name"),
            (json!({"name": "x".repeat(129)}), "/name"),
            (json!({"queue": ""}), "/queue"),
            (json!({"resources": {"gpus": 1_000_000_000}}), "/resources/gpus"),
            (json!({"resources": {"cpus": 0}}), "/resources/cpus"),
            (json!({"resources": {"cpus": -1}}), "/resources/cpus"),
            (json!({"resources": {"cpus": 0.001}}), "/resources/cpus"),
            (json!({"resources": {"memory_mb": 0}}), "/resources/memory_mb"),
            (json!({"resources": {"gpu_type": "T4"}}), "/resources/gpu_type"),
            (json!({"priority": 0}), "/priority"),
            (json!({"priority": 1001}), "/priority"),
            (json!({"timeout_s": 0}), "/timeout_s"),
            (json!({"not_before": "-004713-01-01T00:00:00Z"}), "/not_before"),
            (json!({"not_before": "1969-12-31T23:59:59.999999Z"}), "/not_before"),
            (json!({"command": vec!["x".repeat(131_071); 8]}), ""),
            (json!({"replicas": 0}), "/replicas"),
            (json!({"command": ["sh", "a\u{0}b"]}), "/command/1"),
            (json!({"env": {"A=B": "1"}}), "/env/A=B"),
            (json!({"env": {"BERTH_GPUS": "1"}}), "/env/BERTH_GPUS"),
            (json!({"mounts": [{"source": "../x", "target": "/x"}]}), "/mounts/0/source"),
            (json!({"mounts": [{"source": "/etc", "target": "/x"}]}), "/mounts/0/source"),
            (json!({"mounts": [{"source": "a", "target": "x"}]}), "/mounts/0/target"),
            (json!({"env": {"BERTH_/~": "1"}}), "/env/BERTH_~1~0"),
            (json!({"labels": {"a/b": ""}}), "/labels/a~1b"),
            (json!({"ports": {"a/b": 1}}), "/ports/a~1b"),
            (json!({"ports": {"ssh": 0}}), "/ports/ssh"),
            (json!({"ports": {"a port": 22}}), "/ports/a port"),
            (json!({"preemptible": 1}), "/preemptible"),
            (json!({"constraints": {"": "b2"}}), "/constraints/"),
            (json!({"constraints": {"rack": ""}}), "/constraints/rack"),
            (json!({"constraints": {"rack": "x".repeat(256)}}), "/constraints/rack"),
            (json!({"signal": {"name": "SIGUSR1", "before_s": 1}}), "/signal"),
            (json!({"matrix": {"BERTH_X": ["1"]}}), "/matrix/BERTH_X"),
        ] {
            assert_eq!(refused(body.clone()), [pointer], "{body}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let body = json!({"name": "\n", "resources": {"cpus": 0, "memory_mb": 1}});
        assert_eq!(refused(body), ["/name", "/resources/cpus", "/resources/memory_mb"]);
    }

    #[test]
    fn the_first_and_the_last_time_pass() {
        for time in ["1970-01-01T00:00:00Z", "9999-12-30T22:00:00Z"] {
            assert!(refused(json!({"not_before": time})).is_empty(), "{time}");
        }
    }

    #[test]
    fn multi_line_and_unicode_commands_pass() {
        assert!(refused(json!({"command": ["sh", "-c", "echo 'ä'\nexit 0"], "name": "größe"})).is_empty());
    }
}
