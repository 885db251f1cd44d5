//! Nothing under `/v1` without a token that counts.

use berth_common::time;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{ADMIN, Stage, read, with_stage};

#[tokio::test]
async fn every_operation_wants_a_token() {
    with_stage(async |stage| {
        let (_, document) = read(stage.send(Method::GET, "/openapi.json", |request| request).await).await;
        let mut tried = 0;
        for (path, item) in document["paths"].as_object().expect("paths") {
            if !path.starts_with("/v1/") {
                continue;
            }
            let path = path.replace("{id}", "018f0000-0000-7000-8000-000000000000").replace("{name}", "x");
            for method in item.as_object().expect("methods").keys() {
                let method: Method = method.to_uppercase().parse().expect("a method");
                let answer = stage.send(method.clone(), &path, |request| request).await;
                assert_eq!(answer.status(), 401, "{method} {path}");
                assert!(answer.headers().contains_key("www-authenticate"), "{method} {path}");
                tried += 1;
            }
        }
        assert!(tried > 15, "only {tried} operations are described");
    })
    .await;
}

#[tokio::test]
async fn a_token_counts_while_it_is_known_fresh_and_its_user_is_there() {
    with_stage(async |stage| {
        assert_eq!(stage.get("berth_nobody", "/v1/jobs").await.0, 401);
        let ann = stage.user("ann").await;
        assert_eq!(stage.get(&ann, "/v1/jobs").await.0, 200);

        let soon = time::plus_ms(time::now(), 1500);
        let body = json!({"expires_at": soon});
        let (status, short) = stage.post(ADMIN, "/v1/users/ann/tokens", body).await;
        assert_eq!((status, &short["expires_at"]), (201, &json!(format!("{soon:.6}"))));
        let short = short["token"].as_str().expect("a token");
        assert_eq!(stage.get(short, "/v1/jobs").await.0, 200);
        until_refused(stage, short).await;

        assert_eq!(stage.delete(ADMIN, "/v1/users/ann").await, (204, Value::Null));
        assert_eq!(stage.get(&ann, "/v1/jobs").await.0, 401, "at once, where the user was removed");
    })
    .await;
}

/// A token is remembered for some seconds after it has expired.
async fn until_refused(stage: &Stage, token: &str) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(15);
    loop {
        match stage.get(token, "/v1/jobs").await.0 {
            401 => return,
            200 if tokio::time::Instant::now() < end => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            status => panic!("an expired token still gets {status}"),
        }
    }
}
