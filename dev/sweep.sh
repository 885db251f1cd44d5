# shellcheck shell=bash
# What a killed dev/test, dev/demo or dev/bench left: their EXIT trap did not run. Sourced after cluster.sh.
# Such an instance is .berth/<script>-<pid>; once that pid is nobody's, the next script clears it away.

sweep_dead_instances() {
  local instance
  for instance in "$ROOT"/.berth/{test,demo,bench}-*; do
    [[ ${instance##*-} =~ ^[0-9]+$ ]] && [ -d "$instance" ] && [ ! -e "/proc/${instance##*-}" ] || continue
    note "removing what ${instance##*/} left"
    sweep_instance "$instance" >"$ROOT/.berth/sweep.log" 2>&1 || note "not all of it could be removed: see .berth/sweep.log"
  done
}

# A subshell: what fails here is no reason for the caller to end.
sweep_instance() ( # INSTANCE
  cluster_stop "$1" 5
  if [ -s "$1/test-run" ]; then remove_test_containers "$(cat "$1/test-run")"; fi
  remove_instances_of_tests "$1"
  "$ROOT/dev/services" remove "$1"
)

# Tests that kill services have instances of their own (tests/<test>/services), each with a dockerd of its own.
remove_instances_of_tests() { # INSTANCE
  local instance
  for instance in "$1"/tests/*/services; do
    [ -d "$instance" ] || continue
    "$ROOT/dev/part" remove "$instance" || note "not all of $instance could be removed"
  done
}

# The tests name their devices r<run>-…, and no test's own clean-up runs when its process is killed.
remove_test_containers() { # RUN
  have docker && docker_answers || return 0
  docker ps -a --no-trunc --format '{{.ID}} {{.Label "berth.device"}}' |
    awk -v prefix="r$1-" 'index($2, prefix) == 1 { print $1 }' | docker_remove || true
}
