//! `berth users`: who may use the cluster, and their tokens (admin).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::client::{Answer, Client, Path};
use crate::cluster_args::{UsersArgs, UsersCommand};
use crate::failure::Failure;
use crate::output::{self, escape};
use crate::patience::{self, Patience};
use crate::read;
use crate::table::Table;

#[derive(Deserialize)]
struct User {
    name: String,
    email: Option<String>,
    role: String,
}

#[derive(Deserialize)]
struct Token {
    token: String,
    expires_at: Option<String>,
}

/// # Errors
/// As the server refuses.
pub async fn users(client: &Client, args: &UsersArgs, json: bool) -> Result<u8, Failure> {
    match &args.command {
        None => list(client, json).await,
        Some(UsersCommand::Add { name, role, email }) => {
            let mut body = Map::from_iter([("name".to_owned(), json!(name))]);
            body.extend(role.as_ref().map(|role| ("role".to_owned(), json!(role))));
            body.extend(email.as_ref().map(|email| ("email".to_owned(), json!(email))));
            let answer = post(client, &["v1", "users"], body).await?;
            let told = || format!("{name} added; berth users token {name} makes a token");
            output::print(&if json { answer.text } else { told() })?;
            Ok(0)
        }
        Some(UsersCommand::Token { name }) => {
            let answer = post(client, &["v1", "users", name, "tokens"], Map::new()).await?;
            if json {
                output::print(&answer.text)?;
                return Ok(0);
            }
            let token: Token = answer.read()?;
            output::print(&escape(&token.token))?;
            let until =
                token.expires_at.map(|at| format!(" and expires at {}", escape(&at))).unwrap_or_default();
            output::say(&format!("berth: it cannot be shown again{until}"));
            Ok(0)
        }
    }
}

async fn post(client: &Client, path: Path<'_>, body: Map<String, Value>) -> Result<Answer, Failure> {
    let body = Value::Object(body);
    let patience = Patience::lasting(patience::READ);
    Ok(patience::while_not_now(patience, async || client.post(path, &body, None).await).await?)
}

async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let items = read::all(client, &["v1", "users"]).await?;
    if json {
        output::print_json(&items)?;
        return Ok(0);
    }
    let mut table = Table::new(&["NAME", "ROLE", "EMAIL"]);
    for item in items {
        let user: User = serde_json::from_value(item).map_err(|error| client.nonsense(&error.to_string()))?;
        table.row(vec![user.name.into(), user.role.into(), user.email.unwrap_or_default().into()]);
    }
    output::print(&table.to_string())?;
    Ok(0)
}
