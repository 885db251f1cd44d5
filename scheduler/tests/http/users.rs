//! Users: made and removed by administrators, and the first of them.

use berth_common::database::Session;
use berth_common::time;
use berth_scheduler::http::ensure_admin;
use berth_scheduler::store::read::{Reads, Session as Reading, users};
use futures_util::FutureExt;
use serde_json::{Value, json};

use crate::stage::{ADMIN, with_stage};

#[tokio::test]
async fn only_administrators_make_users_and_names_are_given_once() {
    with_stage(async |stage| {
        let ann = stage.user("ann").await;
        for (method, path) in [("GET", "/v1/users"), ("GET", "/v1/users/admin"), ("POST", "/v1/users")] {
            let (status, _) = match method {
                "GET" => stage.get(&ann, path).await,
                _ => stage.post(&ann, path, json!({"name": "bob"})).await,
            };
            assert_eq!(status, 403, "{method} {path}");
        }
        assert_eq!(stage.post(&ann, "/v1/users/ann/tokens", json!({})).await.0, 403);
        assert_eq!(stage.delete(&ann, "/v1/users/admin").await.0, 403);
        let (_, me) = stage.get(&ann, "/v1/users/ann").await;
        assert_eq!(me, json!({"name": "ann", "email": null, "role": "user"}));

        assert_eq!(stage.post(ADMIN, "/v1/users", json!({"name": "ann"})).await.0, 409);
        assert_eq!(stage.delete(ADMIN, "/v1/users/ann").await, (204, Value::Null));
        assert_eq!(stage.delete(ADMIN, "/v1/users/ann").await.0, 404);
        assert_eq!(stage.post(ADMIN, "/v1/users", json!({"name": "ann"})).await.0, 409, "for ever");
        assert_eq!(stage.post(ADMIN, "/v1/users/ann/tokens", json!({})).await.0, 404);
        assert_eq!(stage.delete(ADMIN, "/v1/users/admin").await.0, 409, "one administrator stays");
    })
    .await;
}

#[tokio::test]
async fn users_are_listed_in_pages() {
    with_stage(async |stage| {
        for name in ["cid", "ann", "bob"] {
            stage.user(name).await;
        }
        let (_, first) = stage.get(ADMIN, "/v1/users?limit=3").await;
        let names = |page: &Value| -> Vec<String> {
            let items = page["items"].as_array().expect("items").iter();
            items.map(|user| user["name"].as_str().expect("a name").to_owned()).collect()
        };
        assert_eq!(names(&first), ["admin", "ann", "bob"]);
        let cursor = first["next_cursor"].as_str().expect("there is more");
        let (_, second) = stage.get(ADMIN, &format!("/v1/users?limit=3&cursor={cursor}")).await;
        assert_eq!((names(&second), &second["next_cursor"]), (vec!["cid".to_owned()], &Value::Null));
    })
    .await;
}

#[tokio::test]
async fn users_made_at_the_same_time_all_get_a_number() {
    with_stage(async |stage| {
        let made = (0..8).map(|n| stage.post(ADMIN, "/v1/users", json!({"name": format!("u{n}")})).boxed());
        for (status, body) in futures_util::future::join_all(made).await {
            assert_eq!(status, 201, "{body}");
        }
    })
    .await;
}

#[tokio::test]
async fn there_is_always_an_administrator_who_can_sign_in() {
    with_stage(async |stage| {
        let connect = async || -> Reading {
            stage.database.connect(Session::Ordinary, &stage.tasks).await.expect("it answers").into()
        };
        let db = connect().await;
        assert_eq!(ensure_admin(&db, None).await.expect("it answers"), None, "there is one");
        assert_eq!(ensure_admin(&db, Some("another-token-that-is-long")).await.expect("it answers"), None);
        assert_eq!(stage.get("another-token-that-is-long", "/v1/jobs").await.0, 401, "and it stays");

        let reads = Reads::new(&stage.database, &stage.tasks).session().await.expect("it answers");
        assert!(users::disable(&reads, "admin").await.expect("it answers"));
        assert!(!users::admin_can_sign_in(&reads, time::now()).await.expect("it answers"));
        let token = ensure_admin(&db, None).await.expect("it answers").expect("a token was made");
        assert_eq!(stage.get(&token, "/v1/users").await.0, 200);
        assert_eq!(ensure_admin(&db, None).await.expect("it answers"), None, "once");
        assert_eq!(stage.get(ADMIN, "/v1/users").await.0, 401, "what was revoked stays so");

        assert!(users::disable(&reads, "admin").await.expect("it answers"));
        let token = ensure_admin(&db, Some(ADMIN)).await.expect("it answers").expect("a new one was made");
        assert_eq!(stage.get(ADMIN, "/v1/users").await.0, 401, "chosen, and revoked all the same");
        assert_eq!(stage.get(&token, "/v1/users").await.0, 200);
    })
    .await;
}
