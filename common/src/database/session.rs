//! What every session has set before anybody uses it, and which engine is on the other side.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// After this time the server itself ends a statement. Whoever waits for it gives up no earlier.
pub const STATEMENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// The engine behind the protocol, for the few settings that only one of them has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    OpenGauss,
    Postgres,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    Ordinary,
    /// It locks its cell's row in every transaction: PostgreSQL ends it when it sits idle in one,
    /// so that a leader that froze does not keep the others out. openGauss has no such setting that
    /// works; there the successor ends the backend that the row names.
    Leader,
}

/// Names are written with their schema; whatever else may be on the search path of the role
/// must not come between.
const EVERYWHERE: &str = "SET statement_timeout = '30s'; SET timezone = 'UTC'; SET search_path TO pg_catalog";
/// It ends idle sessions after ten minutes, and while it is on, openGauss does not apply
/// `statement_timeout` to prepared statements.
const OPENGAUSS: &str = "SET session_timeout = 0";
const LEADER_ON_POSTGRES: &str = "SET idle_in_transaction_session_timeout = '5s'";

/// Finds out which engine it is and sets the session up.
pub(super) async fn set_up(client: &Client, session: Session) -> Result<Engine, Error> {
    // The simple protocol, here and below: nothing is prepared, so poolers do not mind.
    let version = client.simple_query("SELECT version()").await?;
    let engine = version
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(engine_of),
            _ => None,
        })
        .unwrap_or(Engine::Postgres);
    client.batch_execute(EVERYWHERE).await?;
    match (engine, session) {
        (Engine::OpenGauss, Session::Ordinary | Session::Leader) => client.batch_execute(OPENGAUSS).await?,
        (Engine::Postgres, Session::Leader) => client.batch_execute(LEADER_ON_POSTGRES).await?,
        (Engine::Postgres, Session::Ordinary) => {}
    }
    Ok(engine)
}

fn engine_of(version: &str) -> Engine {
    let version = version.to_ascii_lowercase();
    if version.contains("opengauss") || version.contains("gaussdb") {
        Engine::OpenGauss
    } else {
        Engine::Postgres
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_known_by_its_version() {
        for (version, engine) in [
            ("(openGauss-lite 6.0.0 build aee4abd5) compiled at 2024-09-29", Engine::OpenGauss),
            ("(GaussDB Kernel V500R002C10 build 1) compiled", Engine::OpenGauss),
            ("PostgreSQL 15.14 (Debian 15.14-0+deb12u1) on x86_64-pc-linux-gnu", Engine::Postgres),
        ] {
            assert_eq!(engine_of(version), engine, "{version}");
        }
    }

    #[test]
    fn the_limit_on_statements_is_the_one_that_is_set() {
        assert!(EVERYWHERE.contains(&format!("'{}s'", STATEMENT_TIMEOUT.as_secs())));
    }
}
