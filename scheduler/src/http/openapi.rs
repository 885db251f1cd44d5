//! The description of the interface, generated from the code, and a page that shows it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Redirect, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// What the routes do not say themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "Berth", description = "Containers on GPUs, scheduled over a message queue.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")),
    security(("token" = [])),
    modifiers(&BearerToken),
    tags(
        (name = "jobs", description = "Submitting jobs and looking at them"),
        (name = "commands", description = "Commands on jobs and devices"),
        (name = "queues", description = "Where jobs wait, and by which rules"),
        (name = "devices", description = "The hosts with GPUs"),
        (name = "users", description = "Users and tokens, for administrators"),
        (name = "operation", description = "Probes and metrics, without a token"),
    )
)]
pub struct Document;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// The finished document, written once.
#[derive(Clone)]
pub struct Written(Arc<str>);

impl Written {
    /// # Panics
    /// Never for a document that came from code: it has only string keys.
    pub fn new(document: &utoipa::openapi::OpenApi) -> Self {
        Self(document.to_json().expect("only string keys").into())
    }
}

/// `/openapi.json`.
pub async fn document(State(written): State<Written>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], written.0.to_string()).into_response()
}

/// `/docs`: needs nothing but this server.
pub async fn docs() -> Html<&'static str> {
    Html(include_str!("docs.html"))
}

/// `/`, until there is a dashboard.
pub async fn root() -> Redirect {
    Redirect::temporary("/docs")
}
