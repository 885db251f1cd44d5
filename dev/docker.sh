# shellcheck shell=bash
# Docker: the machine's own when it answers, else a dockerd that we start, as root or by sudo. Sourced after lib.sh.
# A dockerd of ours is one for the machine: it serves every instance that asks for Docker while it
# runs, and the last of them to stop ends it, unless somebody else's container runs in it.

DOCKER_STATE=/run/berth-dockerd # run/dockerd.pid, users/<hash> (holding the instance's path), lock

docker_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

may_sudo() { have sudo && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; }

# Before anything goes to the background, where sudo can ask nobody for a password. Root needs none.
docker_start_first() { # INSTANCE
  is_root && return
  mkdir -p "$1"/{run,log} # by their owner, not by root
  (docker_start "$1")
}

docker_start() { # INSTANCE
  local instance=$1
  have docker || die "the docker client is missing: run dev/install"
  if docker_answers; then
    docker_register "$instance"
    return
  fi
  [ -z "${DOCKER_HOST:-}" ] || die "DOCKER_HOST is $DOCKER_HOST, but no Docker answers there. Start it, or unset DOCKER_HOST."
  if ! is_root && have dockerd && may_sudo; then
    sudo "$ROOT/dev/dockerd" start "$instance"
    return
  fi
  is_root || die "Docker does not answer for $(id -un). Start it (sudo systemctl start docker) and join its group (sudo adduser $(id -un) docker, then log in again), or run as root."
  have dockerd || die "no Docker answers and dockerd is missing: run dev/install"
  mkdir -p "$DOCKER_STATE/users" "$DOCKER_STATE/run"
  (
    flock 9 # two instances may start at the same moment
    if ! docker_answers; then
      docker_mount_cgroups
      docker_none_runs
      # live-restore: containers outlive a dockerd that is killed, and the next one finds them again.
      launch "$DOCKER_STATE" dockerd dockerd --live-restore --host unix:///var/run/docker.sock
      if ! wait_until 60 docker_settled || ! docker_answers; then
        last_log_lines "$DOCKER_STATE" dockerd
        die "dockerd does not start: see $DOCKER_STATE/log/dockerd.log"
      fi
      # Whoever was allowed to start it by sudo may use it, without being in its group.
      [ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID" /var/run/docker.sock
      cp "$DOCKER_STATE"/run/dockerd.{pid,start} "$instance/run/"
    fi
  ) 9>"$DOCKER_STATE/lock"
  ln -sfn "$DOCKER_STATE/log/dockerd.log" "$instance/log/dockerd.log"
  docker_register "$instance"
}

# Two on one machine ruin each other's network. A pid file that a killed one left, on the other hand,
# makes the next one refuse as soon as that pid belongs to anybody.
docker_none_runs() {
  local comm
  for comm in /proc/[0-9]*/comm; do
    if [ "$(cat "$comm" 2>/dev/null)" = dockerd ]; then
      comm=${comm%/comm}
      die "a dockerd runs (pid ${comm##*/}) but does not answer on its default socket: end it, or set DOCKER_HOST to where it listens"
    fi
  done
  rm -f /var/run/docker.pid
}

docker_settled() { part_gone "$DOCKER_STATE" dockerd || docker_answers; }

# Only a dockerd of ours has users to count. Its list is root's, so others enter themselves by sudo, once.
docker_register() { # INSTANCE
  local user
  user=$DOCKER_STATE/users/$(instance_hash "$1")
  if [ -n "${DOCKER_HOST:-}" ] || part_gone "$DOCKER_STATE" dockerd; then return; fi
  if is_root; then
    mkdir -p "$DOCKER_STATE/users"
    printf '%s\n' "$1" >"$user"
  elif [ ! -e "$user" ]; then
    if ! may_sudo || ! sudo "$ROOT/dev/dockerd" start "$1"; then
      note "dockerd may end while this instance runs: nobody could enter it in $DOCKER_STATE/users (sudo dev/dockerd start $1)"
    fi
  fi
}

# Without systemd nobody mounts the control groups. Version 2 as a whole where the kernel has no v1.
docker_mount_cgroups() {
  local controller
  grep -q ' /sys/fs/cgroup' /proc/mounts && return 0
  if [ "$(awk '$1 == "memory" { print $2 }' /proc/cgroups 2>/dev/null)" ]; then
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    awk 'NR > 1 && $4 == 1 { print $1 }' /proc/cgroups | while read -r controller; do
      mkdir -p "/sys/fs/cgroup/$controller"
      mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
    done
  else
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
  fi
}

# Removes the containers of this instance: those that its workers started by their own account, and those that
# have the instance's data mounted (a worker that was killed early may have written nothing). Whatever Docker
# answers, the services are stopped afterwards: containers that stay are said, and are no failure.
docker_remove_containers() { # INSTANCE
  [ -d "$1/worker" ] && have docker && docker_answers || return 0
  docker_ids_of "$1" | docker_remove || true
  wait_until 10 docker_has_none_of "$1" ||
    note "some containers of this instance are left: docker ps -a --filter label=berth.instance"
  guards_gone "$1"
}

# Each worker's guard leaves when worker and containers are gone; it must see that before Docker goes too.
guards_gone() { # INSTANCE
  local lock
  for lock in "$1"/worker/*/guard.lock; do
    [ -e "$lock" ] || continue
    flock -s -w 5 "$lock" true || note "the guard of ${lock%/guard.lock} is still there (berth-guard in ps)"
  done
}

# Ids on stdin. One that is gone in the meantime is no problem: xargs goes on, and the caller looks again.
docker_remove() { xargs -r docker rm -f -v >/dev/null 2>&1; }

docker_has_none_of() { [ -z "$(docker_ids_of "$1")" ]; } # INSTANCE

docker_ids_of() { { docker_ids_by_device "$1"; docker_ids_by_mount "$1"; } | sort -u; } # INSTANCE

# The uuid that a worker wrote down is the database's: with somebody else's database other machines' and
# other clones' workers have it too. The device's name tells whose container it is.
docker_ids_by_device() { # INSTANCE
  local file uuid device
  for file in "$1"/worker/*/instance; do
    [ -e "$file" ] || continue
    uuid=$(tr -d '[:space:]' <"$file") || continue
    device=$(basename "$(dirname "$file")")
    [ -n "$uuid" ] || continue
    docker ps -aq --no-trunc --filter "label=berth.instance=$uuid" --filter "label=berth.device=$device" || true
  done
}

# A container may go between the list and the look: what is still there is told all the same.
docker_ids_by_mount() { # INSTANCE
  { docker ps -aq --no-trunc --filter label=berth.instance |
    xargs -r docker inspect --format '{{.Id}}{{range .Mounts}} {{.Source}}{{end}}' 2>/dev/null || true; } |
    awk -v below=" $1/data/" 'index($0 "/", below) { print $1 }'
}

docker_stop() { # INSTANCE
  rm -f "$1/run/dockerd.pid" "$1/run/dockerd.start"
  [ -e "$DOCKER_STATE/users/$(instance_hash "$1")" ] || return 0
  if ! is_root; then
    if may_sudo; then
      sudo "$ROOT/dev/dockerd" stop "$1"
    else
      note "dockerd goes on: it was started by sudo, which now asks for a password. End it with: sudo dev/dockerd stop $1"
    fi
    return
  fi
  (
    flock 9
    rm -f "$DOCKER_STATE/users/$(instance_hash "$1")"
    docker_forget_dead_users
    if part_gone "$DOCKER_STATE" dockerd || compgen -G "$DOCKER_STATE/users/*" >/dev/null; then exit 0; fi
    if [ -n "$(docker ps -q 2>/dev/null)" ]; then
      note "dockerd goes on: containers that are not this instance's run in it (docker ps)"
      exit 0
    fi
    stop_part "$DOCKER_STATE" dockerd 20
  ) 9>"$DOCKER_STATE/lock"
}

# An instance that was killed, or whose folder was removed, does not keep dockerd alive.
docker_forget_dead_users() {
  local user instance pid
  for user in "$DOCKER_STATE"/users/*; do
    [ -e "$user" ] || continue
    instance=$(cat "$user")
    for pid in "$instance"/run/*.pid; do
      pid=${pid##*/}
      pid=${pid%.pid}
      [ "$pid" = dockerd ] || part_gone "$instance" "$pid" || continue 2
    done
    rm -f "$user"
  done
}
