//! The job specification: what a user asks for, with its defaults.
//!
//! [`parse`] reads it from JSON. Every mistake is told with the JSON pointer of its field: unknown
//! fields, wrong types, and (by [`crate::validate`]) values that make no sense.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::pointer;
use crate::problem::{FieldError, Problem};
use crate::validate::MAX_NAME;

/// What a user asks for. Only `image` is required; `Default` of every other field is what the user
/// gets who leaves it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// Shown in lists; the last part of the image's name where it is absent.
    #[serde(default)]
    pub name: String,
    #[serde(default = "default_queue")]
    pub queue: String,
    /// A Docker image reference.
    pub image: String,
    /// The argument list, run as it is, without a shell; empty: the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub workdir: Option<String>,
    #[serde(default)]
    pub resources: Resources,
    /// Labels that a device must carry.
    #[serde(default)]
    pub constraints: BTreeMap<String, String>,
    /// Not before this time.
    #[serde(default, with = "crate::time::option")]
    pub not_before: Option<Timestamp>,
    /// Containers of the job, placed all or none.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Larger runs first: users 100–200, operators and admins 1–1000.
    #[serde(default = "default_priority")]
    pub priority: i32,
    /// Seconds that one attempt may run.
    #[serde(default)]
    pub timeout_s: Option<u64>,
    /// Seconds that it will probably run: a hint for the order, never a limit.
    #[serde(default)]
    pub expected_s: Option<u64>,
    /// How often it is started again after it failed by its own doing.
    #[serde(default)]
    pub retries: u32,
    /// Seconds before the first retry; doubled at each further one, an hour at most.
    #[serde(default = "default_backoff")]
    pub backoff_s: u64,
    #[serde(default)]
    pub preemptible: bool,
    /// What becomes of it when its host is cut off.
    #[serde(default)]
    pub disconnect: Disconnect,
    /// Jobs that must have succeeded before.
    #[serde(default)]
    pub after: Vec<uuid::Uuid>,
    /// Wait until it is released.
    #[serde(default)]
    pub hold: bool,
    #[serde(default)]
    pub array: Option<Array>,
    #[serde(default)]
    pub matrix: BTreeMap<String, Vec<String>>,
    /// Name to container port.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub outputs: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub signal: Option<EarlySignal>,
}

/// What one replica needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    #[serde(default)]
    pub gpus: u32,
    /// Acceptable GPU types; empty: any.
    #[serde(default, deserialize_with = "one_or_many")]
    pub gpu_type: Vec<String>,
    /// In steps of 0.01.
    #[serde(default)]
    #[schema(value_type = f64)]
    pub cpus: Cpus,
    /// Megabytes of 2^20 bytes.
    #[serde(default = "default_memory")]
    pub memory_mb: u64,
    /// Size of `/dev/shm` in megabytes; Docker's own default (64) where absent.
    #[serde(default)]
    pub shm_mb: Option<u64>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            gpus: 0,
            gpu_type: Vec::new(),
            cpus: Cpus::default(),
            memory_mb: default_memory(),
            shm_mb: None,
        }
    }
}

/// A number of CPUs in thousandths, written as a decimal fraction in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus {
    pub milli: i64,
}

impl Default for Cpus {
    fn default() -> Self {
        Self { milli: 1000 }
    }
}

impl Serialize for Cpus {
    #[allow(clippy::cast_precision_loss)] // below 2^53 for any machine
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.milli as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Cpus {
    #[allow(clippy::cast_possible_truncation)] // checked on the line before
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let cpus = f64::deserialize(from)?;
        let milli = (cpus * 1000.0).round();
        if !milli.is_finite() || milli.abs() > 1e12 {
            return Err(serde::de::Error::custom("is no usable number of CPUs"));
        }
        Ok(Self { milli: milli as i64 })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Disconnect {
    /// Its containers are killed when their host is cut off, and it is placed again.
    #[default]
    Requeue,
    /// Its containers go on; it waits for its host.
    Keep,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Array {
    pub count: u32,
    #[serde(default)]
    pub max_running: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mount {
    /// Relative to the user's own data folder on the device.
    pub source: String,
    /// Absolute, in the container.
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EarlySignal {
    pub name: String,
    pub before_s: u64,
}

fn default_queue() -> String {
    "default".into()
}
fn default_memory() -> u64 {
    1024
}
fn default_priority() -> i32 {
    100
}
fn default_backoff() -> u64 {
    10
}
fn one() -> u32 {
    1
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a GPU type or a list of them")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => {
            let mut seen = std::collections::BTreeSet::new();
            many.into_iter().filter(|kind| seen.insert(kind.clone())).collect()
        }
    })
}

/// Reads a specification from the body of a submission, and validates what can be validated
/// without knowing the cluster.
///
/// # Errors
/// 400 when the body is no JSON, 422 with a pointer for every field found wrong.
pub fn parse(body: &[u8]) -> Result<JobSpec, Problem> {
    let value = serde_json::from_slice(body)
        .map_err(|error| Problem::new(400, format!("the body is not JSON: {error}")))?;
    from_value(value)
}

/// [`parse`] for a body that has been read as JSON already.
///
/// # Errors
/// 422 with a pointer for every field found wrong.
pub fn from_value(value: serde_json::Value) -> Result<JobSpec, Problem> {
    if !value.is_object() {
        return Err(Problem::invalid_field(
            "",
            "a job specification is a JSON object with at least \"image\"",
        ));
    }
    let mut errors = Vec::new();
    let mut unknown = |path: serde_ignored::Path<'_>| {
        errors.push(FieldError::new(
            ignored_pointer(&path),
            "unknown field; see /docs for the fields of a job",
        ));
    };
    let mut track = serde_path_to_error::Track::new();
    let parsed = {
        let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
        serde_ignored::deserialize::<_, _, JobSpec>(tracked, &mut unknown)
    };
    match parsed {
        Ok(mut spec) => {
            if spec.name.is_empty() {
                spec.name = name_from_image(&spec.image);
            }
            errors.extend(crate::validate::check(&spec));
            if errors.is_empty() { Ok(spec) } else { Err(Problem::invalid(errors)) }
        }
        Err(error) => {
            let message = error.to_string();
            errors.push(FieldError::new(pointer::of(&track.path(), &message), message));
            Err(Problem::invalid(errors))
        }
    }
}

fn ignored_pointer(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}/{index}", ignored_pointer(parent)),
        Path::Map { parent, key } => format!("{}/{}", ignored_pointer(parent), pointer::escape(key)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_pointer(parent)
        }
    }
}

/// The last part of the image's name, cut to what a name may be: nobody chose it, so it is no mistake.
fn name_from_image(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let name = last.split([':', '@']).next().unwrap_or(last);
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
    name[..end].to_owned()
}

impl JobSpec {
    /// GPUs of all replicas together.
    #[must_use]
    pub fn gpus(&self) -> u64 {
        u64::from(self.resources.gpus) * u64::from(self.replicas)
    }

    /// SHA-256 of the parsed specification with its defaults, in hexadecimal: two bodies that ask
    /// for the same have the same hash, however they are written.
    #[must_use]
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.to_json()))
    }

    /// The specification with its defaults, fields in a fixed order.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a specification has only string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(value: serde_json::Value) -> Vec<String> {
        from_value(value).expect_err("refused").errors.into_iter().map(|e| e.pointer).collect()
    }

    #[test]
    fn only_the_image_is_required() {
        let spec = from_value(json!({"image": "registry/team/train:2"})).expect("valid");
        assert_eq!(spec.name, "train");
        assert_eq!(spec.queue, "default");
        assert_eq!(spec.resources, Resources::default());
        assert_eq!(
            (spec.resources.gpus, spec.resources.cpus.milli, spec.resources.memory_mb),
            (0, 1000, 1024)
        );
        assert_eq!((spec.priority, spec.retries, spec.timeout_s), (100, 0, None));
    }

    #[test]
    fn a_name_out_of_a_long_image_is_cut_between_characters() {
        let spec = from_value(json!({"image": format!("registry/a{}:2", "ä".repeat(100))})).expect("valid");
        assert_eq!(spec.name, format!("a{}", "ä".repeat(63)));
    }

    #[test]
    fn mistakes_are_told_with_their_pointer() {
        assert_eq!(pointers(json!({})), ["/image"]);
        assert_eq!(pointers(json!({"image": 3})), ["/image"]);
        assert_eq!(pointers(json!({"image": "i", "gpus": 1})), ["/gpus"]);
        assert_eq!(pointers(json!({"image": "i", "resources": {"gpu": 1}})), ["/resources/gpu"]);
        assert_eq!(pointers(json!({"image": "i", "resources": {"gpus": -1}})), ["/resources/gpus"]);
        assert_eq!(pointers(json!({"image": "i", "resources": {"gpus": "two"}})), ["/resources/gpus"]);
        assert_eq!(pointers(json!({"image": "i", "mounts": [{"source": "a"}]})), ["/mounts/0/target"]);
        assert_eq!(pointers(json!({"image": "i", "a/b~c": 1})), ["/a~1b~0c"]);
        assert_eq!(parse(b"{").expect_err("refused").status, 400);
        assert_eq!(parse(b"[]").expect_err("refused").status, 422);
    }

    #[test]
    fn a_gpu_type_is_a_string_or_a_list() {
        let of = |v| {
            from_value(json!({"image": "i", "resources": {"gpus": 1, "gpu_type": v}}))
                .expect("valid")
                .resources
                .gpu_type
        };
        assert_eq!(of(json!("T4")), ["T4"]);
        assert_eq!(of(json!(["T4", "A100-80GB"])), ["T4", "A100-80GB"]);
    }

    #[test]
    fn the_hash_does_not_see_how_a_body_is_written() {
        let a = parse(br#"{"image":"i","priority":100}"#).expect("valid");
        let b = parse(br#"{ "queue": "default", "image": "i" }"#).expect("valid");
        assert_eq!(a.hash(), b.hash());
        assert_ne!(a.hash(), parse(br#"{"image":"j"}"#).expect("valid").hash());
    }
}
