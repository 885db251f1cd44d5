//! Queues: who may submit, how long and how many, and what their admins may do.

use berth_common::id::JobId;
use berth_common::job::Status;
use berth_common::message::{AdminRequest, Reply, Target};
use berth_common::queue::{Member, MemberRole, Queue};
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::World;

/// Ann is a member, bob its admin, carol neither.
fn nlp() -> Queue {
    let member = |user: &str, role| Member { user: user.into(), role };
    let members = vec![member("ann", MemberRole::Member), member("bob", MemberRole::Admin)];
    Queue { members, ..Queue::new("nlp") }
}

fn with_queue(queue: Queue) -> World {
    let mut world = World::with(&[("a", 4)]);
    let reply = world.administer(AdminRequest::CreateQueue { queue: Box::new(queue) });
    assert_eq!(reply.status, 201, "{}", reply.body);
    world
}

fn replace(world: &mut World, queue: Queue) -> Reply {
    world.administer(AdminRequest::ReplaceQueue { queue: Box::new(queue) })
}

fn give(world: &mut World, actor: &str, id: u128, job: JobId, body: Value) -> Reply {
    world.give(actor, id, Target::Job(job), body)
}

/// The place of the first mistake.
fn pointer(reply: &Reply) -> &str {
    reply.body["errors"][0]["pointer"].as_str().unwrap_or_default()
}

fn detail(reply: &Reply) -> &str {
    reply.body["detail"].as_str().unwrap_or_default()
}

#[test]
fn members_and_the_clusters_admins_submit_and_nobody_else() {
    let mut world = with_queue(nlp());
    for (n, who, status) in [(1, "ann", 201), (2, "bob", 201), (3, "root", 201), (4, "carol", 403)] {
        let reply = world.submit_as(who, n, json!({"queue": "nlp"}));
        assert_eq!(reply.status, status, "{who}: {}", reply.body);
    }
    let reply = world.submit_as("carol", 5, json!({"queue": "nlp"}));
    assert!(detail(&reply).contains("\"nlp\"") && detail(&reply).contains("bob"), "{}", reply.body);
    let headless = Queue { members: vec![nlp().members[0].clone()], ..nlp() };
    assert_eq!(replace(&mut world, headless).status, 200);
    let reply = world.submit_as("bob", 6, json!({"queue": "nlp"}));
    assert!(reply.status == 403 && detail(&reply).contains("an admin of the cluster"), "{}", reply.body);
    world.settle();
    world.finish("a", 1);
    world.settle();
    let bobs = Uuid::from_u128(2);
    world.finish("a", 1);
    world.finish("a", 1);
    world.settle();
    assert_eq!(world.status(bobs), Status::Exited);
    assert_eq!(
        give(&mut world, "bob", 20, bobs, json!({"command": "retry"})).status,
        403,
        "no member any more"
    );
    assert_eq!(give(&mut world, "root", 21, bobs, json!({"command": "retry"})).status, 202);
}

#[test]
fn members_are_users() {
    let mut world = with_queue(nlp());
    let mut strange = nlp();
    strange.members.push(Member { user: "nobody".into(), role: MemberRole::Member });
    let other = Queue { name: "other".into(), ..strange.clone() };
    let create = AdminRequest::CreateQueue { queue: Box::new(other) };
    let reply = world.administer(create);
    assert_eq!((reply.status, pointer(&reply)), (422, "/members/2/user"), "{}", reply.body);
    assert_eq!(replace(&mut world, strange.clone()).status, 422);
    // One who has left stays a member until somebody strikes the name, or the queue might open to all.
    world.tables.queues.insert("nlp".into(), strange.clone());
    world.reload();
    assert_eq!(replace(&mut world, Queue { weight: 2, ..strange }).status, 200);
}

#[test]
fn a_limit_beyond_the_queues_longest_is_refused_wherever_it_is_named() {
    let mut world = with_queue(Queue { max_timeout_s: Some(100), ..Queue::new("quick") });
    let reply = world.submit_as("ann", 1, json!({"queue": "quick", "timeout_s": 101}));
    assert_eq!((reply.status, pointer(&reply)), (422, "/timeout_s"));
    assert!(detail(&reply).contains("100"), "{}", reply.body);
    let job = world.submit_with(2, json!({"queue": "quick", "timeout_s": 100}));
    world.settle();
    let timeout = |value: u64| json!({"command": "timeout", "value": value});
    let reply = give(&mut world, "ann", 10, job, timeout(101));
    assert_eq!((reply.status, pointer(&reply)), (422, "/value"), "{}", reply.body);
    assert_eq!(give(&mut world, "ann", 11, job, timeout(50)).status, 202);
    world.settle();
    world.finish("a", 1);
    world.settle();
    let set = |seconds: u64| json!({"command": "retry", "set": {"timeout_s": seconds}});
    let reply = give(&mut world, "ann", 12, job, set(101));
    assert_eq!((reply.status, pointer(&reply)), (422, "/set/timeout_s"), "{}", reply.body);
    let stricter = Queue { max_timeout_s: Some(40), ..Queue::new("quick") };
    assert_eq!(replace(&mut world, stricter).status, 200);
    let reply = give(&mut world, "ann", 13, job, json!({"command": "retry"}));
    assert_eq!((reply.status, pointer(&reply)), (422, "/command"), "as it was it is too long now");
    assert!(detail(&reply).contains("the job's timeout_s: at most 40 seconds"), "{}", reply.body);
    let other = json!({"command": "retry", "set": {"env": {}}});
    let reply = give(&mut world, "ann", 14, job, other);
    assert_eq!((reply.status, pointer(&reply)), (422, "/command"), "it was not among what was sent");
    assert_eq!(give(&mut world, "ann", 15, job, set(40)).status, 202);
}

#[test]
fn a_job_without_a_limit_has_the_usual_one_of_its_queue_or_else_the_longest() {
    let mut world = with_queue(Queue { max_timeout_s: Some(100), ..Queue::new("quick") });
    world.submit_with(1, json!({"queue": "quick"}));
    world.settle();
    let started = |world: &World| world.workers["a"].orders.last().and_then(|start| start.timeout_s);
    let told = |world: &World| world.workers["a"].limits.last().and_then(|limit| limit.timeout_s);
    assert_eq!(started(&world), Some(100));
    let usual = Queue { default_timeout_s: Some(60), ..world.tables.queues["quick"].clone() };
    assert_eq!(replace(&mut world, usual).status, 200);
    world.settle();
    assert_eq!(told(&world), Some(60), "what runs is told");
    world.submit_with(2, json!({"queue": "quick"}));
    world.settle();
    assert_eq!(started(&world), Some(60));
}

#[test]
fn a_queue_takes_no_more_unfinished_jobs_than_it_may_have() {
    let mut world = with_queue(Queue { max_jobs: Some(3), approval: true, ..Queue::new("small") });
    let submit = |world: &mut World, n: u128, extra: Value| {
        let mut body = json!({"queue": "small"});
        body.as_object_mut().expect("an object").extend(extra.as_object().cloned().unwrap_or_default());
        world.submit_as("ann", n, body)
    };
    assert_eq!(submit(&mut world, 1, json!({})).status, 201);
    let reply = submit(&mut world, 2, json!({"array": {"count": 3}}));
    assert_eq!(reply.status, 429, "all of it or nothing: {}", reply.body);
    assert!(detail(&reply).contains("may have 3") && detail(&reply).contains("has 1"), "{}", reply.body);
    assert_eq!(submit(&mut world, 3, json!({"array": {"count": 2}})).status, 201);
    world.reload();
    assert_eq!(submit(&mut world, 4, json!({})).status, 429, "unapproved ones count too");
    assert_eq!(submit(&mut world, 1, json!({})).status, 200, "what is there is no new one");
    assert_eq!(world.submit_as("bob", 5, json!({})).status, 201, "other queues are not concerned");
    let first = Uuid::from_u128(1);
    assert_eq!(give(&mut world, "ann", 10, first, json!({"command": "kill"})).status, 202);
    assert_eq!(submit(&mut world, 6, json!({})).status, 201);
    assert_eq!(give(&mut world, "ann", 11, first, json!({"command": "retry"})).status, 429);
    let closed = Queue { max_jobs: Some(0), ..world.tables.queues["small"].clone() };
    assert_eq!(replace(&mut world, closed).status, 200);
    let reply = submit(&mut world, 7, json!({}));
    assert_eq!(reply.status, 422, "waiting does not help: {}", reply.body);
}

#[test]
fn a_retry_that_makes_no_sense_is_told_so_also_where_the_queue_is_full() {
    let mut world = with_queue(Queue { max_jobs: Some(1), ..Queue::new("small") });
    assert_eq!(world.submit_as("ann", 1, json!({"queue": "small"})).status, 201);
    let reply = give(&mut world, "ann", 2, Uuid::from_u128(1), json!({"command": "retry"}));
    assert_eq!(reply.status, 409, "{}", reply.body);
}

#[test]
fn what_is_larger_than_its_queues_whole_quota_is_refused() {
    let quota = [("*".to_owned(), 3), ("T4".to_owned(), 2), ("P4".to_owned(), 0)].into();
    let mut world = with_queue(Queue { quota, ..Queue::new("q") });
    for (n, kinds, gpus, replicas, more, status) in [
        (1, json!([]), 3, 1, json!({}), 201),
        (2, json!([]), 2, 2, json!({}), 422),
        (3, json!("T4"), 2, 1, json!({}), 201),
        (4, json!("T4"), 3, 1, json!({}), 422),
        (5, json!("T4"), 4, 1, json!({"preemptible": true}), 201),
        (6, json!(["T4", "P4"]), 3, 1, json!({}), 422),
        (7, json!(["T4", "A100-80GB"]), 3, 1, json!({}), 201),
    ] {
        let mut body = json!({"queue": "q", "hold": true, "replicas": replicas,
            "resources": {"gpus": gpus, "gpu_type": kinds}});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let reply = world.submit_as("ann", n, body);
        assert_eq!(reply.status, status, "{n}: {}", reply.body);
        assert_eq!(pointer(&reply), if status == 422 { "/resources/gpus" } else { "" }, "{n}");
    }
}

#[test]
fn a_queues_admin_approves_its_jobs_and_no_member_does() {
    let mut world = with_queue(Queue { approval: true, ..nlp() });
    let job = world.submit_with(1, json!({"queue": "nlp"}));
    let approve = json!({"command": "approve"});
    let reply = give(&mut world, "ann", 10, job, approve.clone());
    assert!(reply.status == 403 && detail(&reply).contains("bob"), "{}", reply.body);
    assert_eq!(give(&mut world, "carol", 11, job, approve.clone()).status, 404);
    assert_eq!(give(&mut world, "bob", 12, job, approve.clone()).status, 202);
    world.settle();
    assert_eq!(world.status(job), Status::Running);
    let elsewhere = world.submit_with(2, json!({"hold": true}));
    assert_eq!(give(&mut world, "bob", 13, elsewhere, approve).status, 404, "his queue, and no other");
}

#[test]
fn nobody_but_an_admin_of_the_cluster_approves_a_job_of_their_own() {
    let mut world = with_queue(Queue { approval: true, ..nlp() });
    let approve = json!({"command": "approve"});
    for (n, who) in [(1, "bob"), (2, "root")] {
        assert_eq!(world.submit_as(who, n, json!({"queue": "nlp"})).status, 201);
    }
    let (bobs, roots) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let reply = give(&mut world, "bob", 10, bobs, approve.clone());
    assert!(reply.status == 403 && detail(&reply).contains("an admin of the cluster"), "{}", reply.body);
    assert_eq!(give(&mut world, "root", 11, bobs, approve.clone()).status, 202);
    assert_eq!(give(&mut world, "root", 12, roots, approve).status, 202);
}

#[test]
fn what_is_preemptible_may_be_larger_than_the_quota_and_not_than_the_cluster() {
    let mut world = with_queue(Queue { quota: [("*".to_owned(), 1)].into(), ..Queue::new("q") });
    for (n, gpus, replicas, status, place) in
        [(1, 4, 1, 201, ""), (2, 5, 1, 422, "/resources/gpus"), (3, 2, 3, 422, "/replicas")]
    {
        let resources = json!({"gpus": gpus});
        let body = json!({"queue": "q", "preemptible": true, "replicas": replicas, "resources": resources});
        let reply = world.submit_as("ann", n, body);
        assert_eq!((reply.status, pointer(&reply)), (status, place), "{n}: {}", reply.body);
    }
}

#[test]
fn a_queues_admin_kills_holds_releases_and_orders_its_jobs() {
    let mut world = with_queue(nlp());
    let job = world.submit_with(1, json!({"queue": "nlp", "hold": true}));
    let command = |world: &mut World, id, body| give(world, "bob", id, job, body).status;
    assert_eq!(command(&mut world, 10, json!({"command": "priority", "value": 1000})), 202);
    assert_eq!(world.tables.jobs[&job].priority, 1000);
    let own = give(&mut world, "ann", 11, job, json!({"command": "priority", "value": 1000}));
    assert_eq!((own.status, pointer(&own)), (422, "/value"), "its owner has 100–200");
    assert_eq!(command(&mut world, 12, json!({"command": "release"})), 202);
    world.settle();
    assert_eq!(world.status(job), Status::Running);
    for (id, body) in [
        (13, json!({"command": "timeout", "value": 5})),
        (14, json!({"command": "exec", "argv": ["env"]})),
        (15, json!({"command": "retry"})),
    ] {
        assert_eq!(command(&mut world, id, body.clone()), 403, "{body}");
    }
    assert_eq!(command(&mut world, 16, json!({"command": "hold"})), 202);
    assert_eq!(command(&mut world, 17, json!({"command": "kill"})), 202);
    world.finish("a", 137);
    world.settle();
    assert_eq!(world.status(job), Status::Exited);
    assert_eq!(give(&mut world, "carol", 18, job, json!({"command": "kill"})).status, 404);
}
