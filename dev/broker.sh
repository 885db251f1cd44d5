# shellcheck shell=bash
# A private RabbitMQ (Debian's package, 3.10 and newer) with an epmd of its own. Sourced after lib.sh.
# Accounts are files: secrets/broker-<account> holds the password, dev/broker-definitions turns all of
# them into definitions that the broker loads while it boots, so that no slow rabbitmqctl is needed.

broker_programs() {
  local found
  found=$(compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin' | sort -V | tail -n 1) ||
    die "RabbitMQ is missing: run dev/install"
  printf '%s\n' "$found"
}

broker_major() {
  local folder
  folder=$(broker_programs)
  folder=${folder##*/rabbitmq_server-}
  printf '%s\n' "${folder%%.*}"
}

# The account's URI. With BERTH_AMQP_URL set there is one account for everybody: that one.
broker_url() { # INSTANCE ACCOUNT
  if [ -n "${BERTH_AMQP_URL:-}" ]; then
    printf '%s\n' "$BERTH_AMQP_URL"
  else
    printf 'amqp://%s:%s@127.0.0.1:%s/%%2f?frame_max=131072&heartbeat=10\n' \
      "$2" "$(secret "$1" "broker-$2")" "$(instance_port "$1" rabbitmq)"
  fi
}

# For files that shells load and others read line by line: no character that needs quotes. The broker
# itself proposes the heartbeat (broker_configuration).
broker_url_plain() { # INSTANCE ACCOUNT
  local url
  url=$(broker_url "$@")
  if [ -n "${BERTH_AMQP_URL:-}" ]; then printf '%q\n' "$url"; else printf '%s\n' "${url%&heartbeat=10}"; fi
}

# In the background of dev/services: prepares, starts, waits until the broker takes connections.
broker_start() { # INSTANCE
  local instance=$1 data port
  data=$(service_data "$instance" rabbitmq)
  port=$(instance_port "$instance" rabbitmq)
  broker_prepare "$instance" "$data"
  broker_environment "$instance" "$data"
  if part_gone "$instance" epmd; then
    launch "$instance" epmd "${AS_BROKER[@]}" "$(command -v epmd)" -address 127.0.0.1 -port "$(instance_port "$instance" epmd)" ||
      die "epmd did not start: see $instance/log/epmd.log"
  fi
  wait_until 10 port_open "$(instance_port "$instance" epmd)" || { last_log_lines "$instance" epmd; die "epmd does not answer"; }
  if part_gone "$instance" rabbitmq; then
    (cd "$instance/secrets" && printf '%s\n' broker-*) | sed 's/^broker-//' >"$instance/accounts"
    launch "$instance" rabbitmq "${AS_BROKER[@]}" "$(broker_programs)/rabbitmq-server"
  fi
  wait_until 90 broker_settled "$instance" "$port" || die "RabbitMQ does not answer after 90 s: see $instance/log/rabbitmq.log"
  if part_gone "$instance" rabbitmq; then
    last_log_lines "$instance" rabbitmq
    die "RabbitMQ ended while starting"
  fi
}

broker_settled() { # INSTANCE PORT: answers, or has ended
  part_gone "$1" rabbitmq || { port_open "$2" && { [ ! -e "$1/for-tests" ] || port_open "$(instance_port "$1" rabbitmq-api)"; }; }
}

# Sets AS_BROKER: the command prefix that runs RabbitMQ's programs for this instance. The environment
# is built from nothing, because RABBITMQ_* of the machine's own broker must not reach this one.
broker_environment() { # INSTANCE DATA
  local instance=$1 data=$2 dist
  dist=$(instance_port "$instance" rabbitmq-dist)
  AS_BROKER=()
  if is_root; then AS_BROKER=(setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups); fi
  AS_BROKER+=(env -i --chdir=/
    PATH="$PATH" LANG=C.UTF-8 HOME="$data/home"
    ERL_EPMD_PORT="$(instance_port "$instance" epmd)" ERL_EPMD_ADDRESS=127.0.0.1
    RABBITMQ_CONF_ENV_FILE=/dev/null
    RABBITMQ_NODENAME="berth-$(instance_hash "$instance")@localhost"
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$(instance_port "$instance" rabbitmq)"
    RABBITMQ_DIST_PORT="$dist" RABBITMQ_CTL_DIST_PORT_MIN="$((dist + 12001))" RABBITMQ_CTL_DIST_PORT_MAX="$((dist + 12011))"
    RABBITMQ_CONFIG_FILE="$data/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$data/enabled_plugins"
    RABBITMQ_ADVANCED_CONFIG_FILE="$data/advanced.config"
    RABBITMQ_MNESIA_BASE="$data/mnesia" RABBITMQ_LOG_BASE="$data/log"
    RABBITMQ_SCHEMA_DIR="$data/schema" RABBITMQ_GENERATED_CONFIG_DIR="$data/config"
    RABBITMQ_PID_FILE="$data/rabbitmq.pid"
    # With input "allowed" the start script execs the server instead of standing in front of it, so
    # that the pid on record is the server's; -noinput then takes the input away again.
    RABBITMQ_ALLOW_INPUT=1
    # Without the interface the distribution port listens everywhere; without +sbwt none idle
    # schedulers spin, which small machines feel.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-noinput -kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none')
}

broker_prepare() { # INSTANCE DATA
  local instance=$1 data=$2
  secret "$instance" broker-scheduler >/dev/null
  secret "$instance" broker-admin >/dev/null
  mkdir -p "$data"/{home,mnesia,log,schema,config}
  secret "$instance" erlang-cookie | write_private "$data/home/.erlang.cookie"
  chmod 400 "$data/home/.erlang.cookie"
  python3 "$ROOT/dev/broker-definitions" "$instance/secrets" "$(broker_major)" | write_private "$data/definitions.json"
  broker_configuration "$instance" "$data" >"$data/rabbitmq.conf"
  # What a test wants that rabbitmq.conf has no words for.
  if [ -e "$instance/advanced.config" ]; then cp "$instance/advanced.config" "$data/advanced.config"; fi
  if [ -e "$instance/for-tests" ]; then echo '[rabbitmq_management].'; else echo '[].'; fi >"$data/enabled_plugins"
  rm -f "$data/rabbitmq.pid"
  if is_root; then chown -R rabbitmq:rabbitmq "$data"; fi
}

broker_configuration() { # INSTANCE DATA
  cat <<CONF
listeners.tcp.1 = 127.0.0.1:$(instance_port "$1" rabbitmq)
load_definitions = $2/definitions.json
heartbeat = 10
log.console = true
log.console.level = info
log.file = false
vm_memory_high_watermark.absolute = 1GiB
disk_free_limit.absolute = 50MB
# The quorum queues' write-ahead log grows to 512 MB before it is rolled over otherwise.
raft.wal_max_size_bytes = 33554432
CONF
  if [ -e "$1/for-tests" ]; then
    cat <<CONF
management.tcp.ip = 127.0.0.1
management.tcp.port = $(instance_port "$1" rabbitmq-api)
management.rates_mode = none
CONF
  fi
}

broker_stop() { # INSTANCE SECONDS SIGNAL
  stop_part "$1" rabbitmq "$2" "$3"
  stop_part "$1" epmd 5
}

# Makes accounts. Those that exist before the broker starts cost nothing; a broker that runs is told by
# one rabbitmqctl for all of them (a second or two).
broker_accounts() { # INSTANCE ACCOUNT…
  local instance=$1 account new=()
  shift
  [ -z "${BERTH_AMQP_URL:-}" ] || return 0
  for account in "$@"; do
    secret "$instance" "broker-$account" >/dev/null
    grep -qxF "$account" "$instance/accounts" 2>/dev/null || new+=("$account")
  done
  if [ ${#new[@]} -eq 0 ] || part_gone "$instance" rabbitmq; then return 0; fi
  broker_environment "$instance" "$(service_data "$instance" rabbitmq)"
  python3 "$ROOT/dev/broker-definitions" "$instance/secrets" "$(broker_major)" "${new[@]}" |
    "${AS_BROKER[@]}" "$(broker_programs)/rabbitmqctl" --quiet import_definitions >/dev/null ||
    die "the broker did not take the accounts ${new[*]}: see $instance/log/rabbitmq.log"
  printf '%s\n' "${new[@]}" >>"$instance/accounts"
}
