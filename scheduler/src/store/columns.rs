//! Rows turned into columns: one array per column, as `unnest` wants them.

use std::fmt::Display;

use serde::Serialize;
use tokio_postgres::types::ToSql;

use super::pipeline::Param;

/// The values of one statement, collected column by column.
#[derive(Default)]
pub struct Columns<'a> {
    params: Vec<Param<'a>>,
    bad: Option<String>,
}

/// A number that the column cannot hold, or a text that no engine may get.
#[derive(Debug)]
pub struct Unbindable(pub String);

impl<'a> Columns<'a> {
    /// One value for all rows.
    pub fn one(mut self, value: impl ToSql + Sync + Send + 'a) -> Self {
        self.params.push(Box::new(value));
        self
    }

    pub fn each<T>(self, values: impl Iterator<Item = T>) -> Self
    where
        T: ToSql + Sync + Send + 'a,
    {
        self.one(values.collect::<Vec<T>>())
    }

    /// How many rows there have to be.
    pub fn count(self, rows: usize) -> Self {
        self.one(i64::try_from(rows).unwrap_or(i64::MAX))
    }

    /// Numbers for an `INTEGER` column.
    pub fn ints<T: TryInto<i32> + Copy + Display>(self, values: impl Iterator<Item = T>) -> Self {
        self.maybe_ints(values.map(Some))
    }

    pub fn maybe_ints<T: TryInto<i32> + Copy + Display>(
        self,
        values: impl Iterator<Item = Option<T>>,
    ) -> Self {
        self.narrowed::<T, i32>(values)
    }

    /// Counts for a `BIGINT` column.
    pub fn maybe_longs(self, values: impl Iterator<Item = Option<u64>>) -> Self {
        self.narrowed::<u64, i64>(values)
    }

    fn narrowed<T, C>(mut self, values: impl Iterator<Item = Option<T>>) -> Self
    where
        T: TryInto<C> + Copy + Display,
        C: ToSql + Sync + Send + 'a,
    {
        let mut column: Vec<Option<C>> = Vec::new();
        for value in values {
            let narrow = value.and_then(|value| value.try_into().ok());
            if let (Some(value), None) = (value, &narrow) {
                self.bad.get_or_insert(format!("{value} is too large for its column"));
            }
            column.push(narrow);
        }
        self.one(column)
    }

    /// Texts; an empty one is stored as NULL.
    pub fn texts(self, values: impl Iterator<Item = &'a str>) -> Self {
        self.maybe_texts(values.map(Some))
    }

    pub fn maybe_texts(mut self, values: impl Iterator<Item = Option<&'a str>>) -> Self {
        let column: Vec<Option<&str>> = values.map(|text| text.filter(|t| !t.is_empty())).collect();
        self.refuse_nul(column.iter().copied().flatten());
        self.one(column)
    }

    /// Texts that are made for the statement.
    pub fn made_texts(self, values: impl Iterator<Item = String>) -> Self {
        self.each(values)
    }

    pub fn json<'v, T: Serialize + 'v>(self, values: impl Iterator<Item = &'v T>) -> Self {
        self.maybe_json(values.map(Some))
    }

    /// Documents as text; JSON writes NUL as an escape.
    pub fn maybe_json<'v, T: Serialize + 'v>(mut self, values: impl Iterator<Item = Option<&'v T>>) -> Self {
        let mut column: Vec<Option<String>> = Vec::new();
        for value in values {
            match value.map(serde_json::to_string).transpose() {
                Ok(text) => column.push(text),
                Err(error) => {
                    self.bad.get_or_insert(format!("a document cannot be written: {error}"));
                }
            }
        }
        self.one(column)
    }

    /// PostgreSQL refuses NUL in a text, openGauss stores it.
    fn refuse_nul<'t>(&mut self, mut texts: impl Iterator<Item = &'t str>) {
        if let Some(text) = texts.find(|text| text.contains('\0')) {
            self.bad.get_or_insert(format!("a text contains a NUL character: {text:?}"));
        }
    }

    pub fn done(self) -> Result<Vec<Param<'a>>, Unbindable> {
        match self.bad {
            Some(text) => Err(Unbindable(text)),
            None => Ok(self.params),
        }
    }
}
