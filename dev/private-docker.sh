# shellcheck shell=bash
# A dockerd of one instance's own, beside the machine's, for tests that kill it. Root only. Sourced after lib.sh.
#
# Two on one machine ruin each other's network, mounts and cgroups. This one therefore lives in a sandbox: a
# namespace each for network, mounts and processes, with cgroups below a parent of its own. Its first process
# holds the sandbox and outlives dockerd; when that one is killed the kernel ends everything in it, dockerd,
# containerd and the containers. The process ids that it tells (State.Pid) are those of the sandbox.

# Inside the sandbox only: the machine's own docker0 may have the same addresses.
PRIVATE_DOCKER_BRIDGE=10.222.0.1/20

# Sockets have at most 107 characters, which an instance's folder may use up alone.
private_docker_state() { printf '/run/berth-docker-%s\n' "$(instance_hash "$1")"; } # INSTANCE
private_docker_cgroup() { printf 'berth-%s\n' "$(instance_hash "$1")"; }           # INSTANCE
private_docker_host() { printf 'unix://%s/docker.sock\n' "$(private_docker_state "$1")"; } # INSTANCE

# Whether this machine and this user allow it at all.
private_docker_possible() { is_root && have dockerd && unshare --net --mount --pid --fork true 2>/dev/null; }

# private_docker_start INSTANCE [OPTION OF DOCKERD…]
private_docker_start() {
  local instance=$1
  private_docker_possible || die 'a private dockerd needs root, dockerd, and the right to make namespaces'
  docker_mount_cgroups # before the sandbox copies the mounts
  mkdir -p "$(private_docker_state "$instance")" "$instance/docker" "$instance/log"
  private_docker_sandbox "$instance"
  if part_gone "$instance" dockerd; then private_docker_launch "$@"; fi
  wait_until 60 private_docker_settled "$instance" && part_alive "$instance" dockerd || {
    last_log_lines "$instance" dockerd-door
    die "the private dockerd does not start: see $instance/log/dockerd-door.log"
  }
}

# The first process of the sandbox adopts what others leave behind, and bash, waiting, buries it.
private_docker_sandbox() { # INSTANCE
  part_gone "$1" sandbox || return 0
  launch "$1" sandbox unshare --net --mount --pid --fork --kill-child --mount-proc --propagation slave \
    bash -c 'ip link set lo up; sleep infinity & wait'
  wait_until 5 private_docker_init "$1" >/dev/null || die "no sandbox for dockerd: see $1/log/sandbox.log"
}

private_docker_init() { only_child "$(part_pid "$1" sandbox)"; } # INSTANCE: prints the pid of its first process

# nsenter stays in front of dockerd, to hand on its end. The pid on record is dockerd's own.
private_docker_launch() { # INSTANCE [OPTION OF DOCKERD…]
  local instance=$1 state pid
  state=$(private_docker_state "$instance")
  shift
  rm -f "$state/docker.pid" "$instance"/run/dockerd.{pid,start}
  echo '{}' >"$instance/docker/daemon.json" # not the machine's
  launch "$instance" dockerd-door nsenter --target "$(private_docker_init "$instance")" --net --mount --pid \
    dockerd --config-file "$instance/docker/daemon.json" --data-root "$instance/docker/data" \
    --exec-root "$state/exec" --pidfile "$state/docker.pid" --host "$(private_docker_host "$instance")" \
    --bip "$PRIVATE_DOCKER_BRIDGE" --exec-opt native.cgroupdriver=cgroupfs \
    --cgroup-parent "/$(private_docker_cgroup "$instance")" "$@"
  wait_until 5 only_child "$(part_pid "$instance" dockerd-door)" >/dev/null || return 0 # the caller sees that it ended
  pid=$(only_child "$(part_pid "$instance" dockerd-door)") || return 0
  start_stamp "$pid" >"$instance/run/dockerd.start" || return 0
  echo "$pid" >"$instance/run/dockerd.pid"
}

only_child() { # PID
  local children
  read -ra children <"/proc/$1/task/$1/children" 2>/dev/null || [ ${#children[@]} -gt 0 ] || return 1
  printf '%s\n' "${children[0]}"
}

private_docker_settled() { # INSTANCE: answers, or has ended
  part_gone "$1" dockerd || DOCKER_HOST=$(private_docker_host "$1") docker_answers
}

# Everything of it, containers and images too. Also right when there never was one.
private_docker_remove() { # INSTANCE
  local instance=$1 cgroup state=''
  cgroup=$(private_docker_cgroup "$instance")
  state=$(private_docker_state "$instance")
  stop_part "$instance" sandbox 5 KILL
  wait_until 10 part_gone "$instance" dockerd || note "the dockerd of $instance is still there"
  rm -f "$instance"/run/{dockerd,dockerd-door}.{pid,start}
  rm -rf --one-file-system "$state" "$instance/docker"
  wait_until 10 private_docker_no_cgroups "$cgroup" || note "cgroups named $cgroup are left"
}

private_docker_no_cgroups() { # NAME: removes those that are empty, and tells whether that were all
  find /sys/fs/cgroup -depth -type d -path "*/$1*" -exec rmdir {} + 2>/dev/null || true
  [ -z "$(find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name "$1" 2>/dev/null)" ]
}
