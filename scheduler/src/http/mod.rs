//! The shim: HTTP in front of the broker and the database.
//!
//! It decides nothing about jobs. What changes something goes to the leader as a message, and the
//! leader's answer is the answer; what is only looked at is read from the database. So every
//! scheduler process serves all of it, leader or not. What must always hold: every refusal is problem
//! details, nobody waits for ever, and nothing under `/v1` is answered to somebody unknown.

mod auth;
mod body;
mod change;
mod commands;
mod devices;
mod jobs;
mod logs;
mod metrics;
mod openapi;
mod page;
mod params;
mod probes;
mod queues;
mod refusal;
mod request;
mod serve;
mod served;
mod token;
mod users;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::get;
use berth_common::problem::Problem;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use serve::serve;
pub use served::Shim;
pub use token::ensure_admin;

use openapi::{Document, Written};
use refusal::{Refusal, problem_response};
use served::Served;

/// Everything that is served, to be given to [`serve`].
///
/// # Panics
/// When `shim.registry` has the shim's metrics already.
pub fn router(shim: Shim) -> Router {
    let served = Arc::new(Served::new(shim));
    let (routes, document) = described().split_for_parts();
    let written = Written::new(&document);
    let pages = Router::new()
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::docs))
        .route("/", get(openapi::root))
        .with_state(written);
    routes
        .with_state(Arc::clone(&served))
        .merge(pages)
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(served, metrics::measure))
        .layer(middleware::map_response(no_sniffing))
}

/// The routes that the OpenAPI document describes.
fn described() -> OpenApiRouter<Arc<Served>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(jobs::list::list, jobs::submit::submit))
        .routes(routes!(jobs::batch::batch))
        .routes(routes!(jobs::show::count))
        .routes(routes!(jobs::show::show))
        .routes(routes!(jobs::why::why))
        .routes(routes!(jobs::show::history))
        .routes(routes!(logs::logs))
        .routes(routes!(commands::look::of_job, commands::give::to_job))
        .routes(routes!(commands::bulk::to_many))
        .routes(routes!(commands::look::show))
        .routes(routes!(queues::list, queues::create))
        .routes(routes!(queues::show, queues::replace, queues::remove))
        .routes(routes!(devices::list))
        .routes(routes!(devices::show, devices::remove))
        .routes(routes!(commands::give::to_device))
        .routes(routes!(devices::telemetry))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::remove))
        .routes(routes!(users::add_token))
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .routes(routes!(metrics::metrics))
}

async fn no_route(uri: Uri) -> Refusal {
    Refusal::new(404, format!("there is nothing at {}; see /docs", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(405, format!("{method} is not possible at {}; see /docs", uri.path()))
}

/// A panic is a mistake of ours; it ends one request and nothing else.
// By value: the layer wants it so.
#[allow(clippy::needless_pass_by_value)]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    tracing::error!(panic = %text, "a request panicked");
    problem_response(&Problem::new(500, "a mistake of the scheduler; its log says more"))
}

/// Logs are what users' programs wrote: no browser may take them for a page.
async fn no_sniffing(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
