//! Processes of a container of which Docker does not know: dockerd was killed between making them and
//! noting it down. It takes such a container for one that was never started, and removes it without them.
//!
//! They are found by their control group, which bears the container's id, and killed before the container
//! is removed: else an attempt could go on that is told as never started. That needs the rights of root
//! and the daemon's own machine; where either is missing nothing is found, or it is logged.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Kills them; says how many there were.
pub async fn kill(container: &str) -> usize {
    let id = container.to_owned();
    let killed = tokio::task::spawn_blocking(move || kill_now(&id)).await;
    let killed = killed.expect("it does not panic, and a runtime that ends runs no more tasks");
    if killed > 0 {
        tracing::warn!(
            docker.id = container,
            killed,
            "its processes ran, and Docker did not know of them: killed"
        );
    }
    killed
}

fn kill_now(id: &str) -> usize {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(Pid::from_raw).filter(|pid| is_killed(*pid, id)).count()
}

/// Whether it was a process of that container, and is killed now.
fn is_killed(pid: Pid, id: &str) -> bool {
    let is_its = || {
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
        groups.is_ok_and(|groups| is_in(&groups, id))
    };
    if !is_its() {
        return false;
    }
    // Its number may be another's by now: what is held open is looked at again.
    let killed = pidfd_open(pid, PidfdFlags::empty()).and_then(|process| match is_its() {
        true => pidfd_send_signal(process, Signal::KILL),
        false => Err(rustix::io::Errno::SRCH),
    });
    if let Err(error) = killed {
        tracing::warn!(docker.id = id, pid = pid.as_raw_nonzero(), %error, "a process of a container is not killed");
    }
    killed.is_ok()
}

/// Whether `/proc/<pid>/cgroup` names the container: as a folder of its id, or as systemd's `docker-<id>.scope`.
fn is_in(groups: &str, id: &str) -> bool {
    let is_its = |part: &str| {
        part == id || part.strip_prefix("docker-").and_then(|rest| rest.strip_suffix(".scope")) == Some(id)
    };
    id.len() == ID_LENGTH
        && groups.lines().any(|line| line.rsplit(':').next().is_some_and(|path| path.split('/').any(is_its)))
}

/// Hexadecimal digits of a container's id.
const ID_LENGTH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_its_control_group() {
        let id = "a1".repeat(32);
        for groups in [
            format!("12:pids:/docker/{id}\n0::/"),
            format!("0::/system.slice/docker-{id}.scope"),
            format!("3:cpu,cpuacct:/berth-1/{id}/inner"),
        ] {
            assert!(is_in(&groups, &id), "{groups}");
        }
        for groups in [
            String::new(),
            format!("0::/docker/{id}b"),
            format!("0::/docker-{id}.slice"),
            "0::/docker/a1".into(),
        ] {
            assert!(!is_in(&groups, &id), "{groups}");
        }
        assert!(!is_in("0::/", ""), "no id is everywhere");
    }

    #[test]
    fn nothing_of_an_unknown_container_is_killed() {
        assert_eq!(kill_now(&"f0".repeat(32)), 0);
    }
}
