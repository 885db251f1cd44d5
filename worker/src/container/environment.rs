//! The variables that a container sees: what its user gave, what Berth promises, and what DLWorkspace did.

use berth_common::message::Start;

/// The user's variables and ours. Where both have one, Docker takes the last: ours.
pub(super) fn environment(start: &Start) -> Vec<String> {
    let spec = &start.spec;
    let replica = start.replica;
    let gpus = start.gpus.len();
    let uuids: Vec<_> = start.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
    let replicas = start.gang.as_ref().map_or(spec.replicas, |gang| gang.replicas).to_string();
    let visible = if uuids.is_empty() { "void".to_owned() } else { uuids.join(",") };
    let ours = [
        ("BERTH_JOB_ID", replica.job.to_string()),
        ("BERTH_JOB_NAME", spec.name.clone()),
        ("BERTH_ATTEMPT", replica.attempt.to_string()),
        ("BERTH_REPLICA", replica.replica.to_string()),
        ("BERTH_REPLICAS", replicas.clone()),
        ("BERTH_QUEUE", spec.queue.clone()),
        ("BERTH_USER", start.owner.clone()),
        ("BERTH_GPUS", gpus.to_string()),
        ("BERTH_PASSWORD", start.password.clone()),
        ("NVIDIA_VISIBLE_DEVICES", visible),
        ("DLTS_JOB_ID", replica.job.to_string()),
        ("DLTS_USER_NAME", start.owner.clone()),
        ("DLTS_VC_NAME", spec.queue.clone()),
        ("DLTS_ROLE_NAME", "worker".into()),
        ("DLTS_ROLE_IDX", replica.replica.to_string()),
        ("DLTS_NUM_WORKER", replicas),
        ("DLTS_NUM_GPU_PER_WORKER", gpus.to_string()),
        ("DLTS_PREEMPTIBLE", spec.preemptible.to_string()),
    ];
    let users = spec.env.iter().map(|(key, value)| (key.as_str(), value.clone()));
    let index = start.array_index.map(|index| ("BERTH_ARRAY_INDEX", index.to_string()));
    let all = users.chain(ours).chain(index).chain(rendezvous(start));
    all.map(|(key, value)| format!("{key}={value}")).collect()
}

/// How the replicas of a gang find each other, in the names of `torch.distributed`'s `env://`.
fn rendezvous(start: &Start) -> Vec<(&'static str, String)> {
    let Some(gang) = &start.gang else { return Vec::new() };
    vec![
        ("MASTER_ADDR", gang.master_addr.clone()),
        ("MASTER_PORT", gang.master_port.to_string()),
        ("WORLD_SIZE", gang.replicas.to_string()),
        ("RANK", start.replica.replica.to_string()),
    ]
}
