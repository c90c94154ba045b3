# What the pipelines share; sourced by each of them.
#
# Overrides given to a pipeline go to every command that they belong to: eval.* and features.* to measuring, model
# and model.* to randomize-weights too, everything else to training. Each replaces the pipeline's own default.

set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

settings=() # of training
measure=()  # of evaluation and pruning
model=()    # of the language model

# with_defaults KEY=VALUE... -- OVERRIDES...: the overrides, and the defaults of keys that they leave alone.
with_defaults() {
    local defaults=()
    while [ "$1" != -- ]; do defaults+=("$1"); shift; done
    shift
    local given=" ${*%%=*} " each
    for each in "${defaults[@]}"; do
        case $given in *" ${each%%=*} "*) ;; *) sort_out "$each" ;; esac
    done
    for each in "$@"; do sort_out "$each"; done
}

sort_out() {
    case $1 in
        eval.* | features.*) measure+=("$1") ;;
        model=* | model.*) model+=("$1") settings+=("$1") ;;
        runs_dir=*) export SAE_RUNS=${1#*=} ;;
        *) settings+=("$1") ;;
    esac
}

# setting KEY: its value among the settings of training.
setting() {
    local each
    for each in "${settings[@]}"; do
        case $each in "$1="*) printf '%s\n' "${each#*=}" ;; esac
    done
}

# settings_of GROUP: the settings of training that look into a group: data.path=…, one a line.
settings_of() { printf '%s\n' "${settings[@]}" | grep "^$1\." || true; }

# settings_but KEY...: the settings of training without these, one a line.
settings_but() {
    local each
    for each in "${settings[@]}"; do
        case " $* " in *" ${each%%=*} "*) ;; *) printf '%s\n' "$each" ;; esac
    done
}

# joined LINES: as the values of a sweep.
joined() { paste -sd, -; }

# together OVERRIDES...: train every job of a sweep from one pass over the text; prints the runs.
together() { sae train -m hydra/launcher=shared "$@" "${settings[@]}"; }

# measured RUNS: one JSON document for each run, in a list.
measured() { sae eval -m --json --quiet "run=$(joined)" "${measure[@]}" "$@"; }

# report RUNS: the page of a pipeline's runs, which are given one a line; among the runs, under reports/.
report() {
    local runs
    mapfile -t runs
    sae report "${runs[@]}" --out "${SAE_RUNS:-runs}/reports/$(basename "$0" .sh).html" >/dev/null
}

# answer NAME: the table that ends a pipeline, made of what comes in.
answer() { python3 "$here/answers/$1.py"; }

# runs_of FILES: the directories of the runs that JSON documents are of, one a line.
runs_of() {
    python3 -c 'import json, sys; print(*(json.load(open(each))["run"] for each in sys.argv[1:]), sep="\n")' "$@"
}
