//! Arrays and matrices: one specification that makes many jobs.
//!
//! An array counts its elements; a matrix has one for each combination of its variables' values. Both
//! share one array id, and element `index` is the same job with the same id wherever it is computed.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::id::{JobId, array_element_id};
use crate::pointer::escape;
use crate::problem::FieldError;
use crate::spec::JobSpec;

/// Jobs of one array: they are stored in one transaction.
pub const MAX_ELEMENTS: u32 = 10_000;
/// Bytes of all elements' specifications together, which the database keeps: like a batch over HTTP.
pub const MAX_BYTES: usize = 32 << 20;

impl JobSpec {
    /// Number of jobs that it makes as an array or a matrix; none for a single job.
    #[must_use]
    pub fn element_count(&self) -> Option<u32> {
        if let Some(array) = &self.array {
            return Some(array.count);
        }
        if self.matrix.is_empty() {
            return None;
        }
        let sizes = self.matrix.values().map(|values| u32::try_from(values.len()).unwrap_or(u32::MAX));
        Some(sizes.fold(1, u32::saturating_mul))
    }

    /// The ids of its jobs when it is submitted as `id`: of the single job, or of the elements of
    /// the array, in order.
    #[must_use]
    pub fn job_ids(&self, id: Uuid) -> Vec<JobId> {
        match self.element_count() {
            Some(count) => (0..count).map(|index| array_element_id(id, index)).collect(),
            None => vec![id],
        }
    }

    /// The specification of the job at place `index` of its array: a matrix's values are in its
    /// environment, and its `matrix` has no others. The last variable (by name) changes fastest.
    #[must_use]
    pub fn element(&self, index: u32) -> Self {
        let own = combination(&self.matrix, index);
        let matrix = own.into_iter().map(|(name, value)| (name, vec![value])).collect();
        let mut element = Self { matrix, ..self.clone() };
        element.set_matrix_variables();
        element
    }

    /// Of an element: puts its matrix's values into its environment.
    pub fn set_matrix_variables(&mut self) {
        let values =
            self.matrix.iter().filter_map(|(name, values)| Some((name.clone(), values.first()?.clone())));
        self.env.extend(values.collect::<Vec<_>>());
    }
}

fn combination(matrix: &BTreeMap<String, Vec<String>>, index: u32) -> Vec<(String, String)> {
    let mut rest = index as usize;
    let mut chosen = Vec::with_capacity(matrix.len());
    for (name, values) in matrix.iter().rev() {
        if let Some(value) = values.get(rest % values.len().max(1)) {
            chosen.push((name.clone(), value.clone()));
        }
        rest /= values.len().max(1);
    }
    chosen
}

/// Everything that is wrong with the array or the matrix of `spec`.
pub(crate) fn check(spec: &JobSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut refuse_if = |wrong: bool, pointer: &str, message: String| {
        if wrong {
            errors.push(FieldError::new(pointer, message));
        }
    };
    if let Some(array) = &spec.array {
        let wrong = !(1..=MAX_ELEMENTS).contains(&array.count);
        refuse_if(wrong, "/array/count", format!("1 to {MAX_ELEMENTS}"));
        refuse_if(array.max_running == Some(0), "/array/max_running", "at least 1".into());
        refuse_if(!spec.matrix.is_empty(), "/matrix", "give either an array or a matrix".into());
    }
    for (name, values) in &spec.matrix {
        let pointer = format!("/matrix/{}", escape(name));
        refuse_if(values.is_empty(), &pointer, "needs at least one value".into());
        refuse_if(spec.env.contains_key(name), &pointer, "stands in /env too; give it in one place".into());
    }
    let count = spec.element_count().unwrap_or(1);
    if spec.array.is_none() {
        refuse_if(
            count > MAX_ELEMENTS,
            "/matrix",
            format!("makes {count} jobs, one for each combination; at most {MAX_ELEMENTS}"),
        );
    }
    // Each element has one of the matrix's combinations, and each replica's start the whole specification.
    let one = JobSpec { matrix: BTreeMap::new(), ..spec.clone() }.to_json().len();
    let copies = (count.min(MAX_ELEMENTS) as usize).max(spec.replicas as usize);
    refuse_if(
        one.saturating_mul(copies) > MAX_BYTES && copies > 1,
        "",
        format!(
            "{copies} copies of the specification have at most {MAX_BYTES} bytes together; put long scripts and \
             data into files of the image or of a mount"
        ),
    );
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::from_value;
    use serde_json::json;

    #[test]
    fn a_matrix_has_an_element_for_each_combination() {
        let spec = from_value(json!({"image": "x", "matrix": {"LR": ["0.1", "0.01"], "BS": ["32", "64"]}}));
        let spec = spec.expect("valid");
        assert_eq!(spec.element_count(), Some(4));
        let of = |index| {
            let env = spec.element(index).env;
            (env["BS"].clone(), env["LR"].clone())
        };
        let all: Vec<_> = (0..4).map(of).collect();
        let words = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(all, [words("32", "0.1"), words("32", "0.01"), words("64", "0.1"), words("64", "0.01")]);
    }

    #[test]
    fn a_matrix_may_be_as_large_as_an_array() {
        let values: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        let spec = from_value(json!({"image": "x", "matrix": {"SEED": values}})).expect("valid");
        assert_eq!(spec.element(9_999).matrix["SEED"], ["9999"]);
    }

    #[test]
    fn elements_have_ids_that_follow_from_the_arrays() {
        let spec = from_value(json!({"image": "x", "array": {"count": 3}})).expect("valid");
        let ids = spec.job_ids(Uuid::from_u128(7));
        assert_eq!(ids, spec.job_ids(Uuid::from_u128(7)));
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert_ne!(ids, spec.job_ids(Uuid::from_u128(8)));
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        for (extra, pointer) in [
            (json!({"array": {"count": 0}}), "/array/count"),
            (json!({"array": {"count": 10_001}}), "/array/count"),
            (json!({"array": {"count": 2, "max_running": 0}}), "/array/max_running"),
            (json!({"array": {"count": 2}, "matrix": {"A": ["1"]}}), "/matrix"),
            (json!({"matrix": {"A": []}}), "/matrix/A"),
            (json!({"matrix": {"A": ["1"]}, "env": {"A": "2"}}), "/matrix/A"),
            (json!({"matrix": {"A": vec!["1"; 101], "B": vec!["1"; 100]}}), "/matrix"),
            (json!({"array": {"count": 10_000}, "command": ["x".repeat(5000)]}), ""),
            (json!({"replicas": 10_000, "command": ["x".repeat(5000)]}), ""),
        ] {
            let mut body = json!({"image": "x"});
            for (key, value) in extra.as_object().expect("an object") {
                body[key] = value.clone();
            }
            let problem = from_value(body).expect_err("refused");
            let pointers: Vec<_> = problem.errors.iter().map(|e| e.pointer.as_str()).collect();
            assert_eq!(pointers, [pointer], "{extra}");
        }
    }
}
