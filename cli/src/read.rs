//! Asking for what can be read: one answer, or a list page by page.

use serde::Deserialize;
use serde_json::Value;

use crate::client::{Answer, Client, Path, Query};
use crate::failure::Failure;
use crate::patience::{self, Patience};
use crate::request_error::RequestError;

/// The server's limit on one page.
const PAGE: u32 = 1000;

#[derive(Deserialize)]
struct Page {
    items: Vec<Value>,
    next_cursor: Option<String>,
}

/// One answer; a server that is not ready is waited for a while.
///
/// # Errors
/// As the server refuses.
pub async fn one(client: &Client, path: Path<'_>, query: &Query) -> Result<Answer, RequestError> {
    patience::while_not_now(Patience::lasting(patience::READ), async || client.get(path, query).await).await
}

/// All items of a list.
///
/// # Errors
/// As the server refuses.
pub async fn all(client: &Client, path: Path<'_>) -> Result<Vec<Value>, Failure> {
    Ok(pages(client, path, &Query::new(), None).await?.0)
}

/// Up to `limit` items of a list, and whether there are more.
///
/// # Errors
/// As the server refuses.
pub async fn pages(
    client: &Client,
    path: Path<'_>,
    filter: &Query,
    limit: Option<u32>,
) -> Result<(Vec<Value>, bool), Failure> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let wanted = limit.map_or(PAGE, |limit| {
            limit.saturating_sub(u32::try_from(items.len()).unwrap_or(limit)).min(PAGE)
        });
        let mut query = filter.clone();
        query.push(("limit", wanted.to_string()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page = one(client, path, &query).await?.read()?;
        let empty = page.items.is_empty();
        items.extend(page.items);
        let full = limit.is_some_and(|limit| items.len() >= limit as usize);
        match page.next_cursor {
            Some(next) if !full && !empty => cursor = Some(next),
            Some(_) => return Ok((items, !empty)),
            None => return Ok((items, false)),
        }
    }
}
