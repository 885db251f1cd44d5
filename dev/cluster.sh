# shellcheck shell=bash
# Berth itself in an instance: build, scheduler, workers. Sourced after lib.sh, broker.sh, database.sh, docker.sh, instance.sh.

BIN=$ROOT/target/debug

build() {
  (cd "$ROOT" && CARGO_TARGET_DIR=$ROOT/target cargo build --workspace --exclude berth-bench --bins)
}

cluster_url() { printf 'http://127.0.0.1:%s\n' "$(instance_port "$1" scheduler)"; }
cluster_token() { if [ -n "${BERTH_ADMIN_TOKEN:-}" ]; then echo "$BERTH_ADMIN_TOKEN"; else secret "$1" admin-token; fi; }

# cluster_start INSTANCE GPUS DEVICE…: starts what does not run and waits until all of it answers.
cluster_start() {
  local instance=$1 gpus=$2 name
  shift 2
  # Before the broker's start, so that it boots with them.
  broker_accounts "$instance" "${@/#/device-}"
  "$ROOT/dev/services" start "$instance"
  scheduler_start "$instance"
  for name in "$@"; do worker_start "$instance" "$name" "$gpus"; done
  cluster_wait "$instance" "$@"
}

scheduler_start() ( # INSTANCE; a subshell: the exports are for the scheduler alone
  part_gone "$1" scheduler || exit 0
  BERTH_DATABASE_URL=$(database_url "$1")
  BERTH_AMQP_URL=$(broker_url "$1" scheduler)
  BERTH_LISTEN=127.0.0.1:$(instance_port "$1" scheduler)
  BERTH_ADMIN_TOKEN=$(cluster_token "$1")
  export BERTH_DATABASE_URL BERTH_AMQP_URL BERTH_LISTEN BERTH_ADMIN_TOKEN
  launch "$1" scheduler "$BIN/berth-scheduler" serve
)

worker_start() ( # INSTANCE NAME GPUS
  part_gone "$1" "worker-$2" || exit 0
  mkdir -p "$1/worker/$2" "$1/data"
  unset BERTH_DATABASE_URL # a worker knows the broker only
  BERTH_AMQP_URL=$(broker_url "$1" "device-$2")
  export BERTH_AMQP_URL BERTH_DEVICE=$2 BERTH_GPUS=$3 BERTH_STATE_DIR=$1/worker/$2 BERTH_DATA_DIR=$1/data
  launch "$1" "worker-$2" "$BIN/berth-worker"
)

cluster_wait() { # INSTANCE DEVICE…
  local instance=$1 name parts=(scheduler)
  shift
  for name in "$@"; do parts+=("worker-$name"); done
  if wait_until 60 cluster_settled "$instance" "$@"; then
    cluster_ready "$instance" "$@" && return
  fi
  for name in "${parts[@]}"; do part_alive "$instance" "$name" || last_log_lines "$instance" "$name"; done
  die "not ready: $(cluster_says "$instance" "$@"). The logs are in $instance/log."
}

# Ready, or one of them has ended: then waiting is in vain.
cluster_settled() { # INSTANCE DEVICE…
  local instance=$1 name
  part_alive "$instance" scheduler || return 0
  for name in "${@:2}"; do part_alive "$instance" "worker-$name" || return 0; done
  cluster_ready "$@"
}

cluster_ready() { cluster_says "$@" >/dev/null; }
# With somebody else's database another scheduler may lead, and this one stands by for good.
cluster_says() { # INSTANCE DEVICE…
  local role=(--leader)
  [ -z "${BERTH_DATABASE_URL:-}" ] || role=()
  BERTH_TOKEN=$(cluster_token "$1") python3 "$ROOT/dev/ready" "${role[@]}" "$(cluster_url "$1")" "${@:2}"
}

# Workers and scheduler at once; their containers go afterwards, with the services.
cluster_stop() { # INSTANCE SECONDS
  local file part
  for file in "$1"/run/worker-*.pid "$1"/run/scheduler.pid; do
    [ -e "$file" ] || continue
    part=$(basename "$file" .pid)
    stop_part "$1" "$part" "$2" &
  done
  wait
}

write_environment() { # INSTANCE
  mark_external_urls "$1"
  {
    echo "BERTH_URL=$(cluster_url "$1")"
    echo "BERTH_TOKEN=$(cluster_token "$1")"
    echo "BERTH_DATABASE_URL=$(database_url_plain "$1")"
    echo "BERTH_AMQP_URL=$(broker_url_plain "$1" admin)"
  } | write_private "$1/env"
}
