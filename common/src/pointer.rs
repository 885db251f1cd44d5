//! JSON pointers (RFC 6901): which place of a request's body an error is about.
//!
//! Every reader of a body uses these, so a mistake is told in the same way wherever it is found. What
//! must always hold: a pointer names the field itself, also where serde notices the error one level
//! higher (a field that is missing).

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use crate::problem::Problem;

/// Reads a `T` out of a body that is JSON.
///
/// # Errors
/// 422 with the pointer of the place that cannot be read.
pub fn read<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let message = error.inner().to_string();
        Problem::invalid_field(of(error.path(), &message), message)
    })
}

/// The pointer of the place where reading stopped with `message`. A missing or unknown field may be
/// reported at its parent: then its own name, which serde puts between back-quotes, is added.
#[must_use]
pub fn of(path: &Path, message: &str) -> String {
    let mut tokens: Vec<String> = path
        .iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect();
    if let Some(field) = named(message, "missing field `") {
        tokens.push(field.to_owned());
    }
    if let Some(field) = named(message, "unknown field `").filter(|&f| tokens.last().is_none_or(|t| t != f)) {
        tokens.push(field.to_owned());
    }
    tokens.iter().map(|token| format!("/{}", escape(token))).collect()
}

fn named<'a>(message: &'a str, beginning: &str) -> Option<&'a str> {
    message.strip_prefix(beginning)?.split('`').next()
}

/// One token of a pointer (RFC 6901, section 3).
#[must_use]
pub fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct Body {
        jobs: Vec<u32>,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only read
    struct Inner {
        name: String,
    }

    #[test]
    fn the_place_is_told_by_its_pointer() {
        let pointer = |value: Value| read::<Body>(value).expect_err("refused").errors[0].pointer.clone();
        assert_eq!(pointer(json!([3])), "/0");
        assert_eq!(pointer(json!("text")), "");
        assert_eq!(pointer(json!({})), "/jobs");
        assert_eq!(pointer(json!({"jobs": "all"})), "/jobs");
        assert_eq!(pointer(json!({"jobs": [1, "x"]})), "/jobs/1");
        assert_eq!(pointer(json!({"jobs": [], "a/b~c": 1})), "/a~1b~0c");
        assert_eq!(pointer(json!({"jobs": [], "inner": [{}]})), "/inner/0/name");
        assert_eq!(pointer(json!({"jobs": [], "inner": [{"x": 1}]})), "/inner/0/x");
        assert_eq!(pointer(json!({"jobs": [], "inner": [{"name": "n", "x.y[0]": 1}]})), "/inner/0/x.y[0]");
    }
}
