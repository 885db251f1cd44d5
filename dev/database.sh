# shellcheck shell=bash
# A private PostgreSQL. Sourced after lib.sh.

database_programs() {
  local found
  found=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1) || found=$(command -v initdb) ||
    die "PostgreSQL is missing: run dev/install"
  dirname "$found"
}

database_url() { # INSTANCE [DATABASE]
  if [ -n "${BERTH_DATABASE_URL:-}" ]; then
    printf '%s\n' "$BERTH_DATABASE_URL"
  else
    printf 'postgres://berth:%s@127.0.0.1:%s/%s\n' \
      "$(secret "$1" database-berth)" "$(instance_port "$1" postgres)" "${2:-berth}"
  fi
}

# Like broker_url_plain: somebody else's URL may hold characters that a shell would take for its own.
database_url_plain() { # INSTANCE
  if [ -n "${BERTH_DATABASE_URL:-}" ]; then printf '%q\n' "$BERTH_DATABASE_URL"; else database_url "$1"; fi
}

database_start() { # INSTANCE
  local instance=$1 data bin port
  data=$(service_data "$instance" postgres)
  bin=$(database_programs)
  port=$(instance_port "$instance" postgres)
  AS_DATABASE=()
  if is_root; then AS_DATABASE=(setpriv --reuid=postgres --regid=postgres --clear-groups); fi
  AS_DATABASE+=(env -i --chdir=/ PATH="$PATH" LANG=C.UTF-8)
  database_initialise "$instance" "$data" "$bin"
  if part_gone "$instance" postgres; then
    # After a kill -9 the children of the old server need a moment to notice and go; until then the
    # new one refuses its folder.
    wait_until 20 database_launch "$instance" "$data" "$bin" "$port" || {
      last_log_lines "$instance" postgres
      die "PostgreSQL does not start"
    }
  fi
  database_create "$instance" "$data" "$port"
}

# The cluster is complete or absent: it is made beside its place and moved there.
database_initialise() { # INSTANCE DATA BIN
  local instance=$1 data=$2 bin=$3
  [ ! -e "$data/cluster/PG_VERSION" ] || return 0
  rm -rf "$data/cluster.new"
  mkdir -p "$data" "$data/socket"
  secret "$instance" database-superuser | write_private "$data/password"
  chmod 700 "$data/socket"
  if is_root; then chown -R postgres:postgres "$data"; fi
  # Whoever reaches the private socket folder is the owner; on TCP, where every user of the machine
  # could knock, a password is asked for.
  "${AS_DATABASE[@]}" "$bin/initdb" -D "$data/cluster.new" -U postgres -E UTF8 --no-locale --no-sync \
    --auth-local=trust --auth-host=scram-sha-256 --pwfile="$data/password" >"$instance/log/initdb.log" 2>&1 ||
    { tail -n 15 "$instance/log/initdb.log" >&2; die "initdb failed: see $instance/log/initdb.log"; }
  mv "$data/cluster.new" "$data/cluster"
}

database_launch() { # INSTANCE DATA BIN PORT: true once it answers, false when it ended
  local instance=$1 data=$2 bin=$3 port=$4 settings=()
  # Functional tests ask nothing of the disk; what is lost in a crash of the machine is a test.
  # Measurements ask of it what production does.
  if [ -e "$instance/durable" ]; then
    settings=(-c max_connections=400)
  elif [ -e "$instance/for-tests" ]; then
    settings=(-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=400)
  fi
  launch "$instance" postgres "${AS_DATABASE[@]}" "$bin/postgres" -D "$data/cluster" \
    -c port="$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$data/socket" \
    -c unix_socket_permissions=0700 -c shared_buffers=64MB -c logging_collector=off "${settings[@]}"
  wait_until 30 database_settled "$instance" "$data" && part_alive "$instance" postgres
}

# It has ended, or postmaster.pid says `ready` in its eighth line; a server that was killed left one that says
# so too, with its own pid in the first line.
database_settled() { # INSTANCE DATA
  local pid
  pid=$(part_pid "$1" postgres) || return 0
  [ "$(sed -n '1p;8s/ *$//p' "$2/cluster/postmaster.pid" 2>/dev/null)" = "$pid"$'\nready' ]
}

database_create() { # INSTANCE DATA PORT
  local rights='NOSUPERUSER' password
  # Tests make a database each and end each other's connections.
  if [ -e "$1/for-tests" ]; then rights='SUPERUSER'; fi
  password=$(secret "$1" database-berth)
  env -u PGHOST -u PGPORT -u PGDATABASE -u PGUSER -u PGSERVICE PGOPTIONS='-c client_min_messages=warning' \
    "${AS_DATABASE[@]}" "$(database_programs)/psql" -X -q -v ON_ERROR_STOP=1 -h "$2/socket" -p "$3" -U postgres -d postgres <<SQL >/dev/null
SELECT 'CREATE ROLE berth LOGIN $rights PASSWORD ''$password''' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'berth') \gexec
SELECT 'CREATE DATABASE berth OWNER berth' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'berth') \gexec
SQL
}

database_stop() { # INSTANCE SECONDS SIGNAL
  stop_part "$1" postgres "$2" "$3"
}
