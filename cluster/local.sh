#!/usr/bin/env bash
# A Ray head on this machine, for trying jobs as they run on a cluster.
#   cluster/local.sh start [logical CPUs]     prints what to export
#   cluster/local.sh stop                     ends the head that this script started, by its pid, and no other
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
state=${XDG_STATE_HOME:-$HOME/.local/state}/xhash-ray
pid_file=$state/head.pid

case ${1:-} in
  start)
    [ -e "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null && { echo "already running, pid $(cat "$pid_file")" >&2; exit 2; }
    mkdir -p "$state"
    # Said explicitly on both sides: left alone, Ray decides by whether a token file happens to exist.
    export RAY_AUTH_MODE=token
    "$here/.venv/bin/ray" get-auth-token --generate >/dev/null
    # Logical CPUs are declared above the real ones, so that actors never starve the reads that feed them.
    # Jobs run `python`: the environment of this checkout comes first.
    PATH="$here/.venv/bin:$PATH" setsid "$here/.venv/bin/ray" start --head --block --num-cpus="${2:-8}" --dashboard-host=127.0.0.1 \
      --node-ip-address=127.0.0.1 --disable-usage-stats >"$state/head.log" 2>&1 &
    echo $! >"$pid_file"
    until curl -s -o /dev/null http://127.0.0.1:8265; do
      kill -0 "$(cat "$pid_file")" 2>/dev/null || { echo "the head did not start, see $state/head.log" >&2; rm "$pid_file"; exit 1; }
      sleep 0.5
    done
    echo "export RAY_AUTH_MODE=token RAY_ADDRESS=127.0.0.1:6379 RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265"
    ;;
  stop)
    [ -e "$pid_file" ] || { echo "nothing that this script started is running" >&2; exit 2; }
    kill -TERM -- "-$(cat "$pid_file")" 2>/dev/null || true
    rm "$pid_file"
    ;;
  *)
    sed -n '2,4p' "$0" >&2
    exit 2
    ;;
esac
