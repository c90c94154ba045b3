# What the pipelines share; sourced by each of them.
#
# Any setting of any command that a pipeline runs may be given to it, and replaces the pipeline's own default. Each goes
# to the commands that have it: eval.* and features.* to measuring, model and model.* also to randomize-weights, those
# of prune-high-freq to pruning, figures= and material= to contrasts, everything else to training.

set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(dirname "$(readlink -f "$(command -v sae)")")/python3
[ -x "$python" ] || python=python3

settings=() # of training
measure=()  # of evaluation
prune=()    # of pruning
weights=()  # of randomizing a network
judge=()    # of contrasts
model=()    # of the language model
documents=$(mktemp -d)
trap 'rm -rf "$documents"' EXIT

# Where a process may fork after loading, one that has loaded `sae` stands by and runs its commands (see standby.py).
if [ "$(uname)" = Linux ] && [ "$python" != python3 ]; then
    exec {standby}> >(exec "$python" "$here/standby.py" serve "$documents/standby" >/dev/null)
    standby_process=$!
    sae() {
        while [ ! -S "$documents/standby" ] && kill -0 "$standby_process"; do sleep 0.01; done
        "$python" -I -S "$here/standby.py" ask "$documents/standby" "$@"
    }
fi

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
        max_freq=* | min_freq=* | top_n=* | target_l0=* | band=* | control=* | recenter=* | finetune*) prune+=("$1") ;;
        scheme=* | keep=* | networks=*) weights+=("$1") ;;
        figures=* | material=*) judge+=("$1") ;;
        model=* | model.*) model+=("$1") settings+=("$1") ;;
        runs_dir=*) export SAE_RUNS=${1#*=} ;;
        *) settings+=("$1") ;;
    esac
}

# setting KEY: its value among all that is given; nothing where it is not.
setting() {
    local each
    for each in "${settings[@]}" "${measure[@]}" "${prune[@]}" "${weights[@]}"; do
        case $each in "$1="*) printf '%s\n' "${each#*=}" ;; esac
    done
}

# values KEY: those of a sweep, one a line.
values() { setting "$1" | tr , '\n'; }

# many KEY...: how many jobs a sweep of these has.
many() {
    local key n=1
    for key in "$@"; do n=$((n * $(values "$key" | wc -l))); done
    printf '%s\n' "$n"
}

# number KEY: a setting that is a number, without its underscores.
number() { setting "$1" | tr -d _; }

# cost TRAININGS EVALUATIONS: said before anything begins.
cost() {
    printf '%s: trains %s dictionaries on %s tokens each and evaluates %s, on %s + %s tokens each; what is there is not made again.\n' \
        "$(basename "$0" .sh)" "$1" "$(setting tokens)" "$2" "$(setting eval.tokens)" "$(setting features.tokens)" >&2
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

# pruned OVERRIDES...: prune the runs that come in, each in every way, and evaluate them; prints the runs.
pruned() { sae prune-high-freq -m hydra/launcher=shared "run=$(joined)" "$@" "${measure[@]}"; }

# unless_refused NAME COMMAND...: what a command prints; where it fails nothing, and why is kept in NAME.why.
unless_refused() {
    local name=$1
    shift
    if "$@" 2> >(tee "$documents/$name.why" >&2); then rm -f "$documents/$name.why"; fi
}

# of_seed SEED: the runs of one seed among those that come in.
of_seed() { grep -E -- "-seed$1(-|/|\$)"; }

# measured NAME OVERRIDES...: evaluate the runs that come in; a list of JSON documents.
measured() {
    local name=$1
    shift
    sae eval -m hydra/launcher=shared --json --quiet "run=$(joined)" "${measure[@]}" "$@" >"$documents/$name.json"
}

# measured_truth NAME: as `measured`, of dictionaries of a known truth, which has no documents to choose among.
measured_truth() {
    local each measure_all=("${measure[@]}") measure=()
    for each in "${measure_all[@]}"; do
        case $each in eval.tokens=* | features.tokens=* | features.split=* | features.rare_below=*) measure+=("$each") ;; esac
    done
    measured "$1"
}

# contrast NAME RUN... --against RUN... SETTINGS...: a document, or why it was refused.
contrast() {
    local name=$1 code=0 each asked=()
    shift
    for each in "$@"; do
        case "${each%%=*} ${judge[*]}" in figures\ *figures=*) ;; *) asked+=("$each") ;; esac
    done
    sae contrast --json --quiet "${asked[@]}" "${judge[@]}" "${measure[@]}" \
        >"$documents/$name.json" 2>"$documents/$name.why" || code=$?
    case $code in
        0) rm "$documents/$name.why" ;;
        2) rm "$documents/$name.json" ;;
        *) cat "$documents/$name.why" >&2; return "$code" ;;
    esac
}

# report RUNS: the page of a pipeline's runs, which are given one a line; among the runs, under reports/.
report() {
    local runs
    mapfile -t runs
    sae report "${runs[@]}" --out "${SAE_RUNS:-runs}/reports/$(basename "$0" .sh).html" >/dev/null
}

# answer NAME ARGUMENTS...: the tables and the contrasts that end a pipeline, made of its documents.
answer() { "$python" "$here/answers/$1.py" "$documents" "${@:2}"; }

# runs_of NAME...: the directories of the runs that documents are of, one a line.
runs_of() { for each in "$@"; do "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["run"])' "$documents/$each.json"; done; }
