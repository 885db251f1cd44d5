//! The database goes away and comes back.

use berth_tests::berth::SHORT;
use berth_tests::proxy::Wire;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};

use crate::stage::{
    UNTIL_TOLD, Wired, ask, assert_away, assert_programs_live, container_ends, count, missing, running,
    submit, submit_until, tell,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_while_the_database_is_away_is_reported_when_it_is_back() {
    let Wired { mut berth, database, broker: _whole } = Wired::start().await;
    assert_eq!(submit(&berth, "before").await.status, StatusCode::CREATED);
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;

    database.set(Wire::Cut);
    let said = missing(&berth, "database").await;
    let port = database.port.to_string();
    assert!(said["where"].as_str().is_some_and(|place| place.contains(&port)), "{said:#}");
    assert!(said["do"].as_str().is_some_and(|advice| advice.contains("BERTH_DATABASE_URL")), "{said:#}");
    assert_away(&submit(&berth, "during").await);
    assert_away(&ask(berth.as_admin(Method::GET, &format!("/v1/jobs/{id}"))).await);
    assert_eq!(running(&id).len(), 1, "containers notice nothing");
    tell(&berth);
    container_ends(&id).await;
    let told = berth.schedulers[0].output();
    assert!(told.contains("does not lead now"), "{told}");

    database.set(Wire::Whole);
    let during = submit_until(&berth, "during").await;
    assert_eq!(submit_until(&berth, "during").await, during);
    berth.job_ends(&during, "succeeded", SHORT).await;
    let job = berth.job_ends(&id, "succeeded", SHORT).await;
    assert_eq!(job["attempt"], 1, "{job:#}");
    berth.ready().await;
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_cut_in_the_middle_of_submissions_keeps_what_was_promised() {
    let Wired { mut berth, database, broker: _whole } = Wired::start().await;
    let keys: Vec<String> = (0..20).map(|n| format!("doubt-{n}-")).collect();
    // Some come before the cut, some after, and some while a batch is on its way.
    let cut = async {
        submit(&berth, "first").await;
        database.set(Wire::Cut);
    };
    let (answers, ()) = tokio::join!(join_all(keys.iter().map(|key| submit(&berth, key))), cut);
    database.set(Wire::Whole);
    for (key, before) in keys.iter().zip(answers) {
        let known = before.body["id"].as_str();
        assert!([200, 201, 202, 503].contains(&before.status.as_u16()), "{before:#?}");
        let after = submit_until(&berth, key).await;
        assert!(known.is_none_or(|id| id == after), "{key}: {before:#?}");
        assert_eq!(count(&berth, key).await, 1, "{key}");
        assert_eq!(submit_until(&berth, key).await, after);
    }
    berth.ready().await;
    assert_programs_live(&mut berth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_says_nothing_is_away_too() {
    let Wired { mut berth, database, broker: _whole } = Wired::start().await;
    let id = berth.submit_script(UNTIL_TOLD, 1).await;
    berth.job_is(&id, "running", SHORT).await;
    database.set(Wire::Silent);
    let began = std::time::Instant::now();
    // Whether it is away or slow nobody can know yet. What was accepted is decided later.
    let answer = submit(&berth, "during").await;
    assert!([202, 503].contains(&answer.status.as_u16()), "{answer:#?}");
    missing(&berth, "database").await;
    assert!(began.elapsed() < std::time::Duration::from_secs(25), "{:?}", began.elapsed());
    tell(&berth);
    container_ends(&id).await;
    database.set(Wire::Whole);
    berth.job_ends(&id, "succeeded", SHORT).await;
    submit_until(&berth, "during").await;
    berth.ready().await;
    assert_programs_live(&mut berth);
}
