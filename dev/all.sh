# shellcheck shell=bash
# Everything that up, down, demo and test need, in the order in which the parts build on each other.

# shellcheck source=dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=dev/instance.sh
. "$ROOT/dev/instance.sh"
# shellcheck source=dev/broker.sh
. "$ROOT/dev/broker.sh"
# shellcheck source=dev/database.sh
. "$ROOT/dev/database.sh"
# shellcheck source=dev/docker.sh
. "$ROOT/dev/docker.sh"
# shellcheck source=dev/cluster.sh
. "$ROOT/dev/cluster.sh"
# shellcheck source=dev/sweep.sh
. "$ROOT/dev/sweep.sh"

have cargo || PATH=$HOME/.cargo/bin:$PATH
forget_own_urls
