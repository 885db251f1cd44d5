//! The OpenAPI document and the page that shows it.

use reqwest::Method;

use crate::stage::{read, with_stage};

#[tokio::test]
async fn the_document_is_whole_and_the_page_needs_no_network() {
    with_stage(async |stage| {
        let (_, document) = read(stage.send(Method::GET, "/openapi.json", |request| request).await).await;
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().expect("a name");
            assert!(!document["components"]["schemas"][name].is_null(), "{name} is not described");
        }
        let words = &document["components"]["schemas"]["Outcome"]["enum"];
        assert_eq!(words, &serde_json::json!(["succeeded", "failed", "killed", "timed_out", "error"]));
        for path in ["/v1/jobs", "/v1/jobs:batch", "/v1/jobs/{id}/why", "/v1/devices/{name}/telemetry"] {
            assert!(!document["paths"][path].is_null(), "{path} is not described");
        }
        let responses = |path: &str| document["paths"][path]["post"]["responses"].clone();
        for status in ["202", "403", "404", "409", "422", "429", "503"] {
            let described = &responses("/v1/jobs/{id}/commands")[status];
            assert!(!described.is_null(), "a command may be answered with {status}");
        }
        for path in ["/v1/commands", "/v1/jobs:batch"] {
            let items = responses(path)["200"]["description"].to_string();
            assert!(items.contains("403") && items.contains("429"), "{path}: {items}");
        }
        let root = stage.send(Method::GET, "/", |request| request).await;
        assert_eq!(root.url().path(), "/docs");
        let page = root.text().await.expect("a page");
        assert!(page.contains("/openapi.json"));
        assert!(!page.contains("http://") && !page.contains("https://"), "it loads from elsewhere");
    })
    .await;
}
