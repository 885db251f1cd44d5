//! Messages whose properties are not what the protocol calls text: the broker hands on whatever a client
//! has written there, and no such message may keep others from being read. Nor may one that cannot be
//! stored.

use berth_tests::berth::{Berth, SHORT};
use berth_tests::until::until;
use futures_util::future::join_all;
use reqwest::StatusCode;

use crate::raw::{Raw, long, short};
use crate::stage::{assert_programs_live, submit, submit_until};

/// Flags of the properties that follow, in the order of the protocol.
const HEADERS: u16 = 1 << 13;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const MESSAGE_ID: u16 = 1 << 7;
const TYPE: u16 = 1 << 5;
const APP_ID: u16 = 1 << 3;

const NO_TEXT: &[u8] = b"\xff\xfe no text \xc3";

fn properties(flags: u16, values: &[Vec<u8>]) -> Vec<u8> {
    [flags.to_be_bytes().to_vec(), values.concat()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_properties_are_no_text_stops_nobody() {
    let mut berth = Berth::with_worker("1xT4").await;
    let mut raw = Raw::connect(&berth.vhost.url).await;
    let spec = br#"{"image": "i"}"#;
    // A table with a name that is no text, and one that is a table in a table in a table …
    let odd_name = long(&[short(NO_TEXT), b"S".to_vec(), long(b"value")].concat());
    let deep = (0..8000).fold(Vec::new(), |inner, _| [short(b""), b"F".to_vec(), long(&inner)].concat());
    let bad = [
        properties(MESSAGE_ID, &[short(NO_TEXT)]),
        properties(
            CORRELATION_ID | REPLY_TO | TYPE | APP_ID,
            &[short(NO_TEXT), short(NO_TEXT), short(NO_TEXT), short(NO_TEXT)],
        ),
        properties(HEADERS | MESSAGE_ID, &[odd_name, short(b"odd-name")]),
        properties(HEADERS | MESSAGE_ID, &[long(&deep), short(b"deep")]),
    ];
    for properties in &bad {
        raw.publish("berth.requests", b"job.submit", properties, spec).await;
        raw.publish("berth.events", NO_TEXT, properties, b"{}").await;
    }
    let id = submit_until(&berth, "after").await;
    berth.job_ends(&id, "succeeded", SHORT).await;
    let client = berth.vhost.client().await;
    let mut found = Vec::new();
    until(SHORT, "all of them are in berth.dead", async || {
        found.extend(client.take("berth.dead").await);
        if found.len() == 2 * bad.len() { Ok(()) } else { Err(found.clone()) }
    })
    .await;
    assert!(found.iter().all(|(_, reason)| !reason.is_empty()), "{found:?}");
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_submission_that_the_database_refuses_costs_only_itself() {
    let mut berth = Berth::with_worker("1xT4").await;
    let database = berth.database.client().await;
    let refuse = "ALTER TABLE sched.jobs ADD CONSTRAINT no_poison CHECK (name <> 'poison')";
    database.batch_execute(refuse).await.expect("the database refuses it from now on");
    let keys: Vec<String> = (0..20).map(|n| format!("beside-{n}-")).collect();
    let beside = join_all(keys.iter().map(|key| submit_until(&berth, key)));
    let (ids, poison) = tokio::join!(beside, submit(&berth, "poison"));
    assert_eq!(poison.status, StatusCode::INTERNAL_SERVER_ERROR, "{poison:#?}");
    assert!(poison.body["detail"].as_str().is_some_and(|text| text.contains("berth.dead")), "{poison:#?}");
    for id in &ids {
        berth.job_ends(id, "succeeded", SHORT).await;
    }
    let client = berth.vhost.client().await;
    let (body, reason) = until(SHORT, "it is in berth.dead", async || {
        client.take("berth.dead").await.ok_or_else(|| berth.logs())
    })
    .await;
    assert!(String::from_utf8_lossy(&body).contains("poison"), "{reason}");
    assert!(reason.contains("no_poison"), "the database's own words: {reason}");
    assert_eq!(client.take("berth.dead").await, None);
    berth.ready().await;
    assert_programs_live(&mut berth);
}
