//! Users, tokens and roles: everybody sees and touches their own jobs only.

use berth_tests::berth::Berth;
use reqwest::{Method, StatusCode};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_see_and_touch_their_own_jobs_only() {
    let berth = Berth::with_worker("1xT4").await;
    let mut tokens = Vec::new();
    for name in ["ann", "bob"] {
        let (status, body) = berth.post("/v1/users", json!({"name": name, "role": "user"})).await;
        assert_eq!(status, StatusCode::CREATED, "{body:#}");
        let (status, body) = berth.post(&format!("/v1/users/{name}/tokens"), json!({})).await;
        assert_eq!(status, StatusCode::CREATED, "{body:#}");
        tokens.push(body["token"].as_str().expect("a token").to_owned());
    }
    let spec = json!({
        "image": berth_tests::setting("BERTH_TEST_IMAGE"), "command": ["sleep", "600"], "hold": true,
        "resources": {"memory_mb": 64},
    });
    let (status, job) = berth.request(Method::POST, "/v1/jobs", &tokens[0], Some(spec.to_string())).await;
    assert_eq!((status, &job["owner"]), (StatusCode::CREATED, &json!("ann")), "{job:#}");
    let path = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    let kill = json!({"command": "kill"}).to_string();
    let commands = format!("{path}/commands");
    assert_eq!(berth.request(Method::GET, &path, &tokens[0], None).await.0, StatusCode::OK);
    assert_eq!(berth.request(Method::GET, &path, &tokens[1], None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(berth.request(Method::GET, &path, "berth_wrong", None).await.0, StatusCode::UNAUTHORIZED);
    let refused = berth.request(Method::POST, &commands, &tokens[1], Some(kill.clone())).await;
    assert_eq!(refused.0, StatusCode::NOT_FOUND, "{refused:?}");
    let (_, list) = berth.request(Method::GET, "/v1/jobs", &tokens[1], None).await;
    assert_eq!(list["items"], json!([]));
    let refused = berth.request(Method::GET, "/v1/users", &tokens[0], None).await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN);
    let loud = json!({"image": "i", "priority": 500}).to_string();
    let refused = berth.request(Method::POST, "/v1/jobs", &tokens[0], Some(loud)).await;
    assert_eq!(
        (refused.0, &refused.1["errors"][0]["pointer"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("/priority"))
    );
    let (status, _) = berth.request(Method::POST, &commands, &tokens[0], Some(kill)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (_, job) = berth.request(Method::GET, &path, &tokens[0], None).await;
    assert_eq!(job["outcome"], "killed");
    // No token is stored as it is.
    let rows = berth.database.client().await;
    let rows = rows.query("SELECT token_hash FROM core.tokens", &[]).await.expect("the tokens' table");
    assert!(rows.len() >= 3);
    for row in rows {
        let hash: String = row.get(0);
        assert!(!tokens.contains(&hash) && hash.len() == 64, "{hash}");
    }
}
