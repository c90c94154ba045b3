#!/usr/bin/env bash
# Does a dictionary pick up the network, or the data? The trained model against two with random weights: all of them,
# and all but the embedding. At equal L1, and at equal L0 (TopK with the same k).
#
#   experiments/random-control.sh
#   experiments/random-control.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
#   experiments/random-control.sh scheme=permute           # or gaussian; the default is the model's own initializer
source "$(dirname "$0")/common.sh"
scheme=reinit
overrides=()
for each in "$@"; do
    case $each in scheme=*) scheme=${each#*=} ;; *) overrides+=("$each") ;; esac
done
with_defaults tokens=150_000 l1=1 k=32 seed=0,1,2 eval.tokens=10_000 features.tokens=60_000 \
    -- ${overrides[@]+"${overrides[@]}"}

all=$(sae randomize-weights "scheme=$scheme" ${model[@]+"${model[@]}"})
but_embedding=$(sae randomize-weights "scheme=$scheme" keep=[embed] ${model[@]+"${model[@]}"})

mapfile -t for_l1 < <(settings_but model model.path model.revision k)
mapfile -t for_topk < <(settings_but model model.path model.revision l1)

# of MODEL...: dictionaries of one model, with L1 and with TopK, from one pass over the text.
of() {
    sae train -m hydra/launcher=shared "$@" "${for_l1[@]}"
    sae train -m hydra/launcher=shared sae=topk "$@" "${for_topk[@]}"
}
runs=$(
    of ${model[@]+"${model[@]}"}
    of model=run "model.path=$all"
    of model=run "model.path=$but_embedding"
)

documents=$(mktemp -d)
trap 'rm -rf "$documents"' EXIT
printf '%s\n' "$runs" | measured >"$documents/evaluations.json"
for kind in relu topk; do
    mapfile -t some < <(printf '%s\n' "$runs" | grep "/$kind-")
    others=$(printf '%s\n' "${some[@]:1}" | joined)
    sae compare --json --quiet "a=${some[0]}" "b=[$others]" one_to_one=false "${measure[@]}" >"$documents/$kind.json"
done
python3 "$here/answers/random_control.py" "$documents"/*.json
{ printf '%s\n' "$runs" && runs_of "$documents"/{relu,topk}.json; } | report
