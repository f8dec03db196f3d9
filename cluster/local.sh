#!/usr/bin/env bash
# A Ray cluster on this machine, for trying jobs and failures as they are on a real one:
#   eval "$(cluster/local.sh start)"              head and three workers; points commands and jobs to them
#   eval "$(cluster/local.sh start --workers 0)"  the head alone
#   cluster/local.sh status
#   cluster/local.sh stop                         ends what was started, by process, and nothing else
# More: cluster/local.sh --help
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
exec "$here/.venv/bin/python" -m xhash_ray.runtime.local.cli "$@"
