//! Rows with something in every field.

use std::collections::BTreeMap;

use berth_common::command::{CommandStatus, CommandView, Verb};
use berth_common::device::DeviceState;
use berth_common::id::Replica;
use berth_common::inventory::Gpu;
use berth_common::job::{AttemptStatus, Outcome, Status, StopReason};
use berth_common::message::{Order, Stop, ToDevice};
use berth_common::spec::from_value;
use berth_scheduler::core::rows::{
    ArrayPlace, ContainerRow, DeviceRow, DeviceStateRow, GpuRow, JobEventRow, JobRow, Life, OutboxRow,
    ReservationRow, Rows,
};
use serde_json::json;
use uuid::Uuid;

use crate::database::at_ms;

/// Of all jobs here.
pub const ARRAY: Uuid = Uuid::from_u128(900);

/// The `n`th job, waiting.
pub fn job(n: u128) -> JobRow {
    let spec = from_value(json!({
        "name": format!("job-{n}"), "image": "registry/team/train:2",
        "command": ["sh", "-c", "echo 'ä \"quoted\"'\nexit 0"],
        "env": {"EMPTY": "", "LR": "0.1"}, "labels": {"project": "nlp", "team": "a"},
        "resources": {"gpus": 2, "cpus": 7.5}, "ports": {"ssh": 22}, "timeout_s": 60,
    }));
    let spec = spec.expect("a good specification");
    let body_hash = spec.hash();
    JobRow {
        id: Uuid::from_u128(n),
        uid: 7,
        owner: "ann".into(),
        priority: 120,
        spec,
        body_hash,
        array: Some(ArrayPlace { id: ARRAY, index: u32::try_from(n).expect("a small number") }),
        life: submitted(),
    }
}

fn submitted() -> Life {
    Life {
        status: Status::Pending,
        outcome: None,
        held: false,
        stopping: None,
        grace_ms: None,
        attempt: 0,
        failures: 0,
        faults: 0,
        not_before: None,
        exit_code: None,
        error: None,
        submitted_at: at_ms(10),
        scheduled_at: None,
        started_at: None,
        exited_at: None,
    }
}

/// A life in `status` with everything set that this status allows.
pub fn life(status: Status) -> Life {
    let waiting = Life {
        failures: 1,
        faults: 2,
        attempt: 3,
        not_before: Some(at_ms(20)),
        exit_code: Some(-1),
        error: Some("it failed before".into()),
        ..submitted()
    };
    let placed = Life { status, scheduled_at: Some(at_ms(30)), not_before: None, ..waiting.clone() };
    match status {
        Status::Unapproved => Life { status, ..waiting },
        Status::Pending => Life { held: true, ..waiting },
        Status::Scheduled => placed,
        Status::Running => Life {
            started_at: Some(at_ms(40)),
            stopping: Some(StopReason::Kill),
            grace_ms: Some(10_000),
            ..placed
        },
        Status::Exited => Life {
            started_at: Some(at_ms(40)),
            outcome: Some(Outcome::TimedOut),
            exited_at: Some(at_ms(50)),
            ..placed
        },
    }
}

/// A device with GPUs numbered from `did` + 1 on.
pub fn device(did: i64, gpus: u32) -> DeviceRow {
    let name = format!("dev-{did}");
    let gpu = |idx: u32| Gpu {
        idx,
        uuid: format!("declared-{name}-{idx}"),
        kind: "A100-80GB".into(),
        memory_mb: 81_920,
    };
    DeviceRow {
        did,
        ip: "10.0.0.1".into(),
        cpu_milli: 63_500,
        cpu_name: "EPYC".into(),
        memory_mb: 512_000,
        data_dir: "/srv/berth".into(),
        pub_dir: Some("/srv/public".into()),
        engine: "Docker 20.10".into(),
        gpus_declared: true,
        labels: BTreeMap::from([("rack".into(), "b2".into())]),
        gpus: (0..gpus).map(|idx| GpuRow { gid: did + 1 + i64::from(idx), gpu: gpu(idx) }).collect(),
        name,
    }
}

pub fn device_state(did: i64) -> DeviceStateRow {
    DeviceStateRow {
        did,
        worker_id: Uuid::from_u128(1),
        boot: Uuid::from_u128(2),
        state: DeviceState::Draining,
        session: 99,
        note: Some("for the fan".into()),
        drained: true,
        last_seen_at: at_ms(60),
    }
}

/// A running container of the `job`th job with the GPUs `gids`.
pub fn container(cid: i64, job: u128, did: i64, gids: &[i64]) -> ContainerRow {
    ContainerRow {
        cid,
        replica: Replica { job: Uuid::from_u128(job), attempt: 3, replica: 0 },
        uid: 7,
        did,
        session: 99,
        order_id: 1000 + cid,
        cpu_milli: 7_500,
        memory_mb: 1024,
        gids: gids.to_vec(),
        password: "s3cret".into(),
        ports: BTreeMap::from([("ssh".into(), 40_022), ("web".into(), 40_080)]),
        master_port: Some(29_500),
        status: AttemptStatus::Running,
        docker_id: Some("0123abc".into()),
        exit_code: None,
        oom: true,
        error: Some("slow disk".into()),
        scheduled_at: at_ms(30),
        started_at: Some(at_ms(40)),
        exited_at: None,
        ending: None,
    }
}

pub fn reservations(container: &ContainerRow) -> Vec<ReservationRow> {
    let of = |&gid: &i64| ReservationRow {
        gid,
        cid: container.cid,
        did: container.did,
        job: container.replica.job,
        reserved_at: container.scheduled_at,
    };
    container.gids.iter().map(of).collect()
}

pub fn command(n: u128, job: u128) -> CommandView {
    CommandView {
        id: Uuid::from_u128(n),
        job: Some(Uuid::from_u128(job)),
        device: None,
        command: Verb::Kill,
        argument: json!({"command": "kill", "grace_s": 5}),
        actor: "ann".into(),
        reason: Some("no longer needed".into()),
        status: CommandStatus::Pending,
        exit_code: None,
        output: None,
        truncated: false,
        asked_at: at_ms(70),
        done_at: None,
    }
}

pub fn message(id: i64, device: &DeviceRow, replica: Replica) -> OutboxRow {
    let order = Order::Stop(Stop { replica, reason: StopReason::Kill, grace_ms: 10_000 });
    OutboxRow {
        device: device.name.clone(),
        message: ToDevice { session: 99, id, order },
        created_at: at_ms(80),
    }
}

/// A device with two GPUs, and one job of each status; the running one has both GPUs.
pub fn cluster() -> Rows {
    let device = device(100, 2);
    let jobs = (1..).zip(Status::ALL).map(|(n, &status)| JobRow { life: life(status), ..job(n) });
    let container = container(200, 4, device.did, &[101, 102]);
    let event = |seq, from| JobEventRow {
        seq,
        job: Uuid::from_u128(4),
        from,
        to: Status::Running,
        actor: "scheduler".into(),
        reason: Some("it fits".into()),
        at: at_ms(90),
    };
    Rows {
        new_gpus: device.gpus.clone(),
        new_device_states: vec![device_state(device.did)],
        new_jobs: jobs.collect(),
        reservations: reservations(&container),
        new_commands: vec![command(300, 4)],
        events: vec![event(400, None), event(401, Some(Status::Scheduled))],
        outbox: vec![message(500, &device, container.replica), message(501, &device, container.replica)],
        new_containers: vec![container],
        new_devices: vec![device],
        next_id: Some(10_000),
        ..Rows::default()
    }
}
