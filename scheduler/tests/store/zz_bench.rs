use crate::database::{Fresh, at_ms, with_database};
use crate::sample;
use berth_common::job::*;
use berth_scheduler::core::rows::*;
use std::time::Instant;
use uuid::Uuid;

#[tokio::test]
async fn bench() {
    with_database(async |fresh: Fresh| {
        let mut lead = fresh.lead().await;
        let mut seq = 1_000_000i64;
        let mut next = 1u128 << 64;
        for n in [1usize, 100, 500, 500] {
            let mut times = vec![];
            for _ in 0..20 {
                let jobs: Vec<JobRow> = (0..n)
                    .map(|_| {
                        next += 1;
                        sample::job(next)
                    })
                    .collect();
                let events = jobs
                    .iter()
                    .map(|j| {
                        seq += 1;
                        JobEventRow {
                            seq,
                            job: j.id,
                            from: None,
                            to: Status::Pending,
                            actor: "ann".into(),
                            reason: None,
                            at: at_ms(5),
                        }
                    })
                    .collect();
                let rows = Rows { new_jobs: jobs, events, ..Rows::default() };
                let t = Instant::now();
                lead.commit(&rows, &[], at_ms(1)).await.expect("ok");
                times.push(t.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            println!("new {n}: median {:.2} ms, min {:.2}, max {:.2}", times[10], times[0], times[19]);
        }
        // life cycle: place / run / exit of 500 with 1 gpu
        let device = DeviceRow { gpus: vec![], ..sample::device(5_000_000, 0) };
        let mut device = device;
        let gpus: Vec<GpuRow> = sample::device(5_000_000, 500).gpus;
        device.gpus = gpus.clone();
        lead.commit(
            &Rows {
                new_devices: vec![device.clone()],
                new_gpus: gpus,
                new_device_states: vec![sample::device_state(5_000_000)],
                ..Rows::default()
            },
            &[],
            at_ms(1),
        )
        .await
        .expect("ok");
        let mut place = vec![];
        let mut run = vec![];
        let mut exit = vec![];
        let mut cid = 10_000_000i64;
        for round in 0..10u128 {
            let ids: Vec<u128> = (0..500).map(|i| (1u128 << 64) + 100 + round * 500 + i).collect();
            let mut containers = vec![];
            let mut jobs = vec![];
            let mut res = vec![];
            let mut ev = vec![];
            let mut out = vec![];
            for (i, &id) in ids.iter().enumerate() {
                cid += 1;
                seq += 1;
                let mut c = sample::container(cid, id, 5_000_000, &[5_000_001 + i as i64]);
                c.status = AttemptStatus::Pending;
                c.started_at = None;
                jobs.push(JobRow { life: sample::life(Status::Scheduled), ..sample::job(id) });
                res.extend(sample::reservations(&c));
                out.push(sample::message(seq, &device, c.replica));
                ev.push(JobEventRow {
                    seq,
                    job: Uuid::from_u128(id),
                    from: Some(Status::Pending),
                    to: Status::Scheduled,
                    actor: "s".into(),
                    reason: None,
                    at: at_ms(5),
                });
                containers.push(c);
            }
            let published: Vec<i64> = out.iter().map(|o| o.message.id).collect();
            let t = Instant::now();
            lead.commit(
                &Rows {
                    jobs: jobs.clone(),
                    new_containers: containers.clone(),
                    reservations: res,
                    events: ev.clone(),
                    outbox: out,
                    ..Rows::default()
                },
                &[],
                at_ms(1),
            )
            .await
            .expect("place");
            place.push(t.elapsed().as_secs_f64() * 1e3);
            for (c, j) in containers.iter_mut().zip(&mut jobs) {
                c.status = AttemptStatus::Running;
                c.started_at = Some(at_ms(3));
                j.life = sample::life(Status::Running);
            }
            for e in &mut ev {
                seq += 1;
                e.seq = seq;
            }
            let t = Instant::now();
            lead.commit(
                &Rows {
                    jobs: jobs.clone(),
                    containers: containers.clone(),
                    events: ev.clone(),
                    ..Rows::default()
                },
                &published,
                at_ms(1),
            )
            .await
            .expect("run");
            run.push(t.elapsed().as_secs_f64() * 1e3);
            for (c, j) in containers.iter_mut().zip(&mut jobs) {
                c.status = AttemptStatus::Exited;
                c.exited_at = Some(at_ms(4));
                j.life = sample::life(Status::Exited);
            }
            for e in &mut ev {
                seq += 1;
                e.seq = seq;
            }
            let rel = containers
                .iter()
                .map(|c| Release { gid: c.gids[0], cid: c.cid, released_at: at_ms(9) })
                .collect();
            let t = Instant::now();
            lead.commit(
                &Rows { jobs, containers, releases: rel, events: ev, ..Rows::default() },
                &[],
                at_ms(1),
            )
            .await
            .expect("exit");
            exit.push(t.elapsed().as_secs_f64() * 1e3);
        }
        println!("place500 {place:.1?}\nrun500 {run:.1?}\nexit500 {exit:.1?}");
        let t = Instant::now();
        let s = lead.load().await.expect("loads");
        println!("load {} jobs: {:.0} ms", s.jobs.len(), t.elapsed().as_secs_f64() * 1e3);
        for _ in 0..180 {
            let jobs: Vec<JobRow> = (0..500)
                .map(|_| {
                    next += 1;
                    sample::job(next)
                })
                .collect();
            lead.commit(&Rows { new_jobs: jobs, ..Rows::default() }, &[], at_ms(1)).await.expect("ok");
        }
        let t = Instant::now();
        let s = lead.load().await.expect("loads");
        println!("load {} jobs: {:.0} ms", s.jobs.len(), t.elapsed().as_secs_f64() * 1e3);
    })
    .await;
}
