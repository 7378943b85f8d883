#!/usr/bin/env bash
# Everything that is to be measured on a GPU host: parity of every family, speed beside torch, first costs, a server.
#
#   benchmarks/gpu.sh [--dry-run] [STEP ...]
#
# Without a STEP all of them, in the order below; each takes less than ten minutes on an H200 and can be run alone, where
# a machine is lent for a short time only. Results go to benchmarks/results (RESULTS= to change), what is made, such as
# engines, to CACHE. PYTHON= is the interpreter: it needs this project's `export` and `gpu` extras, and torch with CUDA.
# What it lacks, where there is no network, may lie in WHEELS=: files *.whl, or pieces of them as `split` makes them,
# NAME.whl.aa, NAME.whl.ab and so on. With --dry-run: tiny sizes on the CPU, to see that it runs.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
RESULTS=${RESULTS:-benchmarks/results}
CACHE=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sonant/benchmarks}
LIMIT=${LIMIT:-600} # seconds for a step
DRY=()
if [[ ${1:-} == --dry-run ]]; then
    DRY=(--dry-run)
    shift
fi

if [[ -n ${WHEELS:-} ]]; then
    for first in "$WHEELS"/*.whl.aa; do
        [[ -e $first ]] && cat "${first%aa}"?? >"${first%.aa}"
    done
    # In front of what is installed: onnxruntime and onnxruntime-gpu share one name.
    "$PYTHON" -m pip install --quiet --no-index --no-deps --upgrade --target "$CACHE/site" "$WHEELS"/*.whl
    export PYTHONPATH="$CACHE/site${PYTHONPATH:+:$PYTHONPATH}"
fi

# The libraries of CUDA that torch brings: ONNX Runtime looks for them, and so does the server, which has no torch.
LIBRARIES=$("$PYTHON" -c 'import site; from pathlib import Path
found = (path for each in site.getsitepackages() for path in sorted(Path(each, "nvidia").glob("*/lib")))
print(":".join(map(str, found)))')
export LD_LIBRARY_PATH="$LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

measure() { # NAME SCENARIO OPTION ...
    local name=$1
    shift
    echo "== $name" >&2
    timeout "$LIMIT" "$PYTHON" -m benchmarks gpu "$@" "${DRY[@]}" --cache "$CACHE" --output "$RESULTS/gpu-$name.json"
}

parity() { measure parity parity; }
speed-hubert-base() { measure speed-hubert-base speed --model hubert-base; }
speed-hubert-large() { measure speed-hubert-large speed --model hubert-large; }
speed-sew() { measure speed-sew speed --model sew-mid; }
speed-ast() { measure speed-ast speed --model ast-base --lengths 10; }
speed-usm() { measure speed-usm speed --model usm --lengths 1,10,30; }
shapes() { measure shapes shapes; }
load() { measure load load; }

STEPS=(parity speed-hubert-large speed-hubert-base speed-sew speed-ast speed-usm shapes load)
failed=()
for step in "${@:-${STEPS[@]}}"; do
    if [[ " ${STEPS[*]} " != *" $step "* ]]; then
        echo "$0: there is no step $step, only ${STEPS[*]}" >&2
        exit 2
    fi
    "$step" || failed+=("$step")
done
if ((${#failed[@]})); then
    echo "$0: failed: ${failed[*]}" >&2
    exit 1
fi
