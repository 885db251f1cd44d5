# shellcheck shell=bash
# Where an instance keeps its services' data, and which variables of the environment are the instance's own.
# Sourced after lib.sh.

# The data folder of a service, made at first use. Services that run as users of their own (when we are
# root) must be able to enter every folder above it, which a clone below /root forbids; and PostgreSQL's
# socket has at most 107 characters. In both cases the data goes to /var/tmp, by a link.
service_data() { # INSTANCE SERVICE
  local services=$1/services
  if [ ! -e "$services" ]; then
    if service_data_fits "$1"; then
      mkdir -p "$services"
    else
      make_outside "$(service_data_outside "$1")"
      ln -sfn "$(service_data_outside "$1")" "$services"
    fi
  fi
  printf '%s\n' "$(cd "$services" && pwd -P)/$2"
}

service_data_outside() { printf '/var/tmp/berth-%s-%s\n' "$(id -u)" "$(instance_hash "$1")"; }

service_data_fits() { # INSTANCE
  local user
  [ ${#1} -le 60 ] && [[ $1 != *[!A-Za-z0-9/._-]* ]] || return 1
  is_root || return 0
  for user in rabbitmq postgres; do
    # A part that is not installed here (its URL is given) has no user.
    getent passwd "$user" >/dev/null || continue
    setpriv --reuid="$user" --regid="$user" --clear-groups test -x "$1" 2>/dev/null || return 1
  done
}

# /var/tmp belongs to everybody: a folder or a link that somebody else put there first is not used.
make_outside() { # FOLDER
  mkdir -m 711 "$1" 2>/dev/null || true
  if [ -L "$1" ] || [ ! -d "$1" ] || [ ! -O "$1" ]; then die "$1 is in the way and not ours: remove it"; fi
}

# `set -a; . .berth/env` leaves the URLs of `make up`'s own services in the shell. They are no wish for
# other services: a `make up` that took them for one would start none. Where `make up` itself was told to
# use somebody's services, its env holds those, and a mark beside it says so.
forget_own_urls() {
  local name
  for name in BERTH_DATABASE_URL BERTH_AMQP_URL; do
    if [ ! -e "$ROOT/.berth/external/$name" ] && is_own_url "$name"; then unset "$name"; fi
  done
}

# For the demo, which shares nothing with `make up`, whosever services those are.
forget_shared_urls() {
  local name
  for name in BERTH_DATABASE_URL BERTH_AMQP_URL; do
    if is_own_url "$name"; then unset "$name"; fi
  done
}

is_own_url() { # VARIABLE
  [ -n "${!1:-}" ] && grep -qxF -e "$1=${!1}" -e "$1=$(printf %q "${!1}")" "$ROOT/.berth/env" 2>/dev/null
}

mark_external_urls() { # INSTANCE
  local name
  for name in BERTH_DATABASE_URL BERTH_AMQP_URL; do
    rm -f "$1/external/$name"
    if [ -n "${!name:-}" ]; then
      mkdir -p "$1/external"
      touch "$1/external/$name"
    fi
  done
}
