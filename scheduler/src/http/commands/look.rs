//! Commands as they were given, and how they ended.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use berth_common::command::CommandView;
use berth_common::problem::Problem;

use crate::http::auth::Caller;
use crate::http::jobs::show::require_visible;
use crate::http::jobs::visible::visible;
use crate::http::page::{ListParams, Page, Position};
use crate::http::params::{Id, Params, limit};
use crate::http::refusal::Refusal;
use crate::http::served::Served;
use crate::store::read::commands;

/// A command: where it stands and how it ended.
#[utoipa::path(get, path = "/v1/commands/{id}", tag = "commands", params(("id" = Uuid, Path)),
    responses((status = 200, body = CommandView), (status = 404, body = Problem)))]
pub async fn show(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(id): Id,
) -> Result<Json<CommandView>, Refusal> {
    let db = served.reads().session().await?;
    let missing = || {
        Refusal::new(
            404,
            format!(
                "there is no command {id} that you may see. One that was answered with 202 and \
                 \"accepted\" appears once the scheduler has decided it"
            ),
        )
    };
    let command = commands::find(&db, id).await?.ok_or_else(missing)?;
    let seen = caller.sees(&command.actor)
        || match command.job {
            Some(job) => visible(&db, &caller, &[job]).await?.contains(&job),
            None => false,
        };
    if seen { Ok(Json(command)) } else { Err(missing()) }
}

/// The commands that a job was given, newest first.
#[utoipa::path(get, path = "/v1/jobs/{id}/commands", tag = "commands",
    params(("id" = Uuid, Path), ListParams),
    responses((status = 200, body = Page<CommandView>), (status = 404, body = Problem)))]
pub async fn of_job(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Id(job): Id,
    Params(params): Params<ListParams>,
) -> Result<Json<Page<CommandView>>, Refusal> {
    let limit = limit(params.limit)?;
    let before = params.cursor.as_deref().map(Position::from_cursor).transpose()?.unwrap_or(Position::NEWEST);
    let db = served.reads().session().await?;
    require_visible(&db, &caller, job).await?;
    let found = commands::page_of_job(&db, job, (before.at, before.id), i64::from(limit) + 1).await?;
    let position = |command: &CommandView| Position { at: command.asked_at, id: command.id }.to_cursor();
    Ok(Json(Page::cut(found, limit, position)))
}
