//! The CHECK constraints of `sql/controller/0002_sched.sql` and the files after it.

use berth_common::command::{CommandStatus, CommandView};
use berth_common::job::{AttemptStatus, Status};
use berth_scheduler::core::rows::{ContainerRow, JobRow, QueueUsageRow};

fn hold(of: &dyn std::fmt::Display, constraints: &[(&str, bool)]) -> Result<(), String> {
    match constraints.iter().find(|(_, holds)| !holds) {
        Some((name, _)) => Err(format!("{of} breaks the constraint {name}")),
        None => Ok(()),
    }
}

pub(super) fn job(row: &JobRow) -> Result<(), String> {
    let life = &row.life;
    let placed = life.status.is_placed();
    let exited = life.status == Status::Exited;
    hold(
        &row.id,
        &[
            ("outcome_when_exited", life.outcome.is_some() == exited),
            ("exited_at_when_exited", life.exited_at.is_some() == exited),
            ("held_while_pending", life.status == Status::Pending || !life.held),
            ("stopping_while_placed", life.stopping.is_none() || placed),
            ("grace_while_stopping", life.grace_ms.is_some() == life.stopping.is_some()),
            ("placed_has_attempt", !placed || (life.attempt > 0 && life.scheduled_at.is_some())),
            (
                "started_at_when_running",
                !placed || life.started_at.is_some() == (life.status == Status::Running),
            ),
            ("started_was_scheduled", life.started_at.is_none() || life.scheduled_at.is_some()),
        ],
    )
}

pub(super) fn container(row: &ContainerRow) -> Result<(), String> {
    let exited = row.status == AttemptStatus::Exited;
    let running = row.status == AttemptStatus::Running;
    hold(
        &row.replica,
        &[
            ("container_exited_at", row.exited_at.is_some() == exited),
            ("container_started_at", exited || row.started_at.is_some() == running),
            ("container_exit_code", row.exit_code.is_none() || exited),
        ],
    )
}

pub(super) fn command(row: &CommandView) -> Result<(), String> {
    hold(
        &row.id,
        &[
            ("one_target", row.job.is_none() != row.device.is_none()),
            ("done_at_when_over", row.done_at.is_none() == (row.status == CommandStatus::Pending)),
        ],
    )
}

pub(super) fn usage(row: &QueueUsageRow) -> Result<(), String> {
    hold(&row.queue, &[("gpu_ms from 0 on", row.gpu_ms >= 0)])
}
