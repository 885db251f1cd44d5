# shellcheck shell=bash
# What the scripts of dev/ share: messages, processes known by pid, ports, secrets.
# Sourced, never run. Sourcing it changes nothing but the shell's options and PATH.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# An ordinary user's PATH often lacks the folders in which Debian keeps dockerd, iptables and debootstrap.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

note() { printf '%s\n' "berth: $*" >&2; }
die() { note "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# --- waiting --------------------------------------------------------------------------------------

# wait_until SECONDS COMMAND…: polls ten times a second; false when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# --- processes ------------------------------------------------------------------------------------
# A part of an instance is known by run/<part>.pid (the server process itself) and run/<part>.start
# (boot and start time of that process). Only when both agree with /proc is the process ours: a pid
# alone may long belong to somebody else.

start_stamp() { # PID
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) } # the command's name is in parentheses and may contain anything
  # shellcheck disable=SC2086 # the fields are to be split
  set -- $stat
  [ "$1" != Z ] || return 1
  printf '%s %s\n' "$(cat /proc/sys/kernel/random/boot_id)" "${20}"
}

part_pid() { # INSTANCE PART: prints the pid of a living part, else fails
  local pid stamp
  pid=$(cat "$1/run/$2.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  stamp=$(start_stamp "$pid") || return 1
  [ "$stamp" = "$(cat "$1/run/$2.start" 2>/dev/null)" ] || return 1
  printf '%s\n' "$pid"
}

part_alive() { part_pid "$1" "$2" >/dev/null; }
part_gone() { ! part_alive "$1" "$2"; }

# launch INSTANCE PART COMMAND…: in a session of its own, log in log/PART.log. The pid is written by
# the process that becomes the server (every step execs), so that no interruption can lose it.
launch() {
  local instance=$1 part=$2
  shift 2
  mkdir -p "$instance/run" "$instance/log"
  rm -f "$instance/run/$part.pid" "$instance/run/$part.start"
  # shellcheck disable=SC2016 # expanded by the inner shell
  setsid bash -c '
    run=$1 part=$2; shift 2
    stat=$(< /proc/$$/stat); stat=${stat##*) }; read -ra field <<< "$stat"
    echo "$(< /proc/sys/kernel/random/boot_id) ${field[19]}" > "$run/$part.start"
    echo $$ > "$run/$part.pid"
    exec "$@"' launch "$instance/run" "$part" "$@" \
    </dev/null >>"$instance/log/$part.log" 2>&1 9>&- &
  disown
  wait_until 5 test -s "$instance/run/$part.pid"
}

# stop_part INSTANCE PART SECONDS [SIGNAL]: asks, waits, then kills. Nothing happens to a pid that is not ours.
stop_part() {
  local pid
  if pid=$(part_pid "$1" "$2"); then
    kill -s "${4:-TERM}" "$pid" 2>/dev/null || true
    if ! wait_until "$3" part_gone "$1" "$2"; then
      note "$2 ($pid) did not stop within $3 s: killed"
      kill -KILL "$pid" 2>/dev/null || true
      wait_until 5 part_gone "$1" "$2" || note "$2 ($pid) is still there after SIGKILL"
    fi
  fi
  rm -f "$1/run/$2.pid" "$1/run/$2.start"
}

# Work beside the script's own, in a process group of its own which end_background ends as a whole:
# Ctrl-C does not reach what a script has put into the background.
IN_BACKGROUND=()
in_background() { # LOG COMMAND…
  setsid "${@:2}" </dev/null >"$1" 2>&1 9>&- &
  IN_BACKGROUND+=($!)
}

end_background() {
  local group
  for group in "${IN_BACKGROUND[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
  for group in "${IN_BACKGROUND[@]}"; do wait "$group" 2>/dev/null || true; done
}

last_log_lines() { # INSTANCE PART
  note "the last lines of $1/log/$2.log:"
  tail -n 15 "$1/log/$2.log" >&2 2>/dev/null || true
}

# --- an instance's folder -------------------------------------------------------------------------

# Prints the absolute path of an instance's folder, making it (private to its owner's writing).
instance_dir() {
  mkdir -p "$1"
  (cd "$1" && pwd -P)
}

# A short name that is unique to the folder: for the broker's node name and the data outside.
instance_hash() { printf '%s' "$1" | sha256sum | cut -c1-10; }

# A port is chosen once and kept, so that a killed part comes back where its clients look for it.
instance_port() { # INSTANCE NAME
  local file=$1/ports/$2
  if [ ! -s "$file" ]; then
    mkdir -p "$1/ports"
    free_port >"$file"
  fi
  cat "$file"
}

# Chosen below the kernel's range for outgoing connections (32768–60999), or such a connection could
# sit on the port of a part that is just being restarted.
free_port() {
  local port try
  for try in {1..200}; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    port_open "$port" || { echo "$port"; return; }
  done
  die "no free port between 20000 and 32000 after $try tries"
}

# A random password, made at first use: readable by the owner only.
secret() { # INSTANCE NAME
  local file=$1/secrets/$2
  if [ ! -s "$file" ]; then
    (umask 077 && mkdir -p "$1/secrets" && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$file.new" && mv "$file.new" "$file")
  fi
  cat "$file"
}

# Replaces a file as a whole, mode 600: a reader never sees half of it.
write_private() { # FILE, content on stdin
  (umask 077 && cat >"$1.new.$$" && mv "$1.new.$$" "$1")
}
