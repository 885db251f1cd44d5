//! Lists in pages: each cursor names the last item that was given, so what is added or removed
//! meanwhile neither repeats nor skips an item.

use berth_common::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Which page of a list that has no filters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// 1–1000; 100 where absent.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; null: this was the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Cuts `items`, of which one more than `limit` was read, to `limit`; `cursor` is what
    /// leads to what comes after an item.
    pub fn cut(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(cursor);
        Self { items, next_cursor }
    }
}

/// Where an item stands: its time, and its id among those of the same microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub at: Timestamp,
    pub id: Uuid,
}

impl Position {
    pub fn to_cursor(self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.at.as_microsecond().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        hex::encode(bytes)
    }

    /// # Errors
    /// 422 on what is no cursor.
    pub fn from_cursor(cursor: &str) -> Result<Self, Problem> {
        let mut bytes = [0; 24];
        let read = hex::decode_to_slice(cursor, &mut bytes).ok().and_then(|()| {
            let (micros, id) = bytes.split_first_chunk::<8>()?;
            Some(Self {
                at: Timestamp::from_microsecond(i64::from_be_bytes(*micros)).ok().filter(is_possible)?,
                id: Uuid::from_slice(id).ok()?,
            })
        });
        read.ok_or_else(|| Problem::invalid_field("/cursor", "is not a cursor that a list has given"))
    }

    /// The position before everything in a list with the newest first.
    pub const NEWEST: Self = Self { at: Timestamp::MAX, id: Uuid::max() };
}

/// Nothing in a list is older; and no database knows all the years that a cursor could name.
fn is_possible(at: &Timestamp) -> bool {
    *at >= Timestamp::UNIX_EPOCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_went() {
        let position = Position { at: berth_common::time::now(), id: Uuid::now_v7() };
        assert_eq!(Position::from_cursor(&position.to_cursor()), Ok(position));
        for bad in ["", "x", "00", &"f".repeat(48), &"80".repeat(24), &"0".repeat(50)] {
            assert_eq!(
                Position::from_cursor(bad).expect_err("refused").errors[0].pointer,
                "/cursor",
                "{bad}"
            );
        }
    }

    #[test]
    fn only_a_full_page_has_a_next_one() {
        assert_eq!(Page::cut(vec![1, 2], 2, i32::to_string).next_cursor, None);
        let page = Page::cut(vec![1, 2, 3], 2, i32::to_string);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(page.next_cursor.as_deref(), Some("2"));
    }
}
