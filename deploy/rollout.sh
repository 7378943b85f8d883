#!/usr/bin/env bash
# Replaces the server behind the proxy by a new one, without a request that fails:
#
#   IMAGE=sonant:1.1 deploy/rollout.sh          on GPUs: GPU_IMAGE=sonant:1.1 DEVICE=gpu deploy/rollout.sh
#
# It starts the server that does not serve, `blue` or `green`, from the image and the settings that docker-compose.yml and
# .env name now; waits until the proxy finds it ready, which is when it has verified its engines; has the proxy send
# nothing new to the other, waits for what is on its way there, and stops it. What does not become ready is stopped, and
# the other goes on serving. While both run, there must be memory for both.
#
#   DEVICE=cpu         or gpu
#   READY_SECONDS=600  for the new server to be ready
#   DRAIN_SECONDS=660  for requests and streams at the old one; then it is stopped, and ends them in its own time
#   COMPOSE=...        the command, `docker compose` by default, such as `podman-compose`
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra compose <<<"${COMPOSE:-docker compose}"
case ${DEVICE:-cpu} in
    cpu) suffix='' ;;
    gpu) suffix=-gpu ;;
    *) echo "rollout: DEVICE is ${DEVICE}: cpu or gpu" >&2; exit 2 ;;
esac

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() { say "rollout: $*" >&2; exit 1; }
compose() { "${compose[@]}" --profile "rolling$suffix" --profile rolling-other "$@"; }
# tell COMMAND: to the proxy's runtime API; prints the answer.
tell() { compose exec -T proxy sh -c "echo '$1' | nc 127.0.0.1 9999" 2>/dev/null; }
# of SERVER FIELD: what the proxy says of it; 5 is its sessions, 18 its state.
of() { tell 'show stat servers 4 -1' | awk -F , -v server="$1" -v field="$2" '$2 == server { print $field }'; }
is_up() { [[ $(of "$1" 18) == UP* ]]; }
# within SECONDS COMMAND...: wait until the command succeeds; fail if it does not in time.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.5
    done
}
is_idle() { [[ $(of "$1" 5) == 0 ]]; }

tell 'show info' | grep -q ^Uptime \
    || fail "the proxy does not answer: start it with \`${compose[*]} --profile rolling$suffix up -d\`"
if is_up blue && is_up green; then
    fail "blue and green both serve: stop the one that is not wanted with \`${compose[*]} stop NAME\`, and try again"
fi
if is_up green; then old=green new=blue; else old=blue new=green; fi

say "starting $new$suffix"
tell "set server servers/$new state ready" >/dev/null
compose up -d --no-deps "$new$suffix"
if ! within "${READY_SECONDS:-600}" is_up "$new"; then
    compose logs --tail 20 "$new$suffix" >&2 || true
    compose stop "$new$suffix"
    fail "$new$suffix was not ready in time and is stopped; $old$suffix serves as before. Its last lines stand above"
fi

say "$new$suffix is ready; nothing new goes to $old$suffix"
tell "set server servers/$old state drain" >/dev/null
within "${DRAIN_SECONDS:-660}" is_idle "$old" || say "$old$suffix still has $(of "$old" 5) requests: it ends them in its own time"
compose stop "$old$suffix"
tell "set server servers/$old state ready" >/dev/null
say "$new$suffix serves"
