#!/usr/bin/env bash
# Does a dictionary pick up the network, or the data? Dictionaries of the trained model against those of networks with
# random weights, a network for each seed: all of the weights, and all but the embedding. At equal L1, and at equal L0
# (TopK with the same k).
#
#   experiments/random-control.sh
#   experiments/random-control.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
#   experiments/random-control.sh scheme=permute           # or gaussian; the default is the model's own initializer
source "$(dirname "$0")/common.sh"
with_defaults scheme=reinit tokens=100_000 l1=1 k=32 seed=0,1,2 eval.tokens=10_000 features.tokens=40_000 -- "$@"
cost $((6 * $(many seed))) $((6 * $(many seed)))

mapfile -t for_l1 < <(settings_but model model.path model.revision k seed)
mapfile -t for_topk < <(settings_but model model.path model.revision l1 seed)

# of SEEDS MODEL...: dictionaries of one model, with L1 and with TopK, from one pass over the text.
of() {
    sae train -m hydra/launcher=shared "seed=$1" "${@:2}" "${for_l1[@]}"
    sae train -m hydra/launcher=shared sae=topk "seed=$1" "${@:2}" "${for_topk[@]}"
}
trained=$(of "$(setting seed)" ${model[@]+"${model[@]}"})
all= but_embedding=
for seed in $(values seed); do
    network=$(sae randomize-weights "seed=$seed" "${weights[@]}" ${model[@]+"${model[@]}"})
    all+=$(of "$seed" model=run "model.path=$network")$'\n'
    network=$(sae randomize-weights "seed=$seed" keep=[embed] "${weights[@]}" ${model[@]+"${model[@]}"})
    but_embedding+=$(of "$seed" model=run "model.path=$network")$'\n'
done
runs=$(printf '%s\n' "$trained" "$all" "$but_embedding" | sed '/^$/d')
printf '%s\n' "$runs" | measured evaluations
figures='figures=[token_entropy_median,top3_share_median,dense_10,alive,fvu]'
for kind in relu topk; do
    of_kind() { printf '%s\n' "$1" | grep "/$kind-"; }
    contrast "$kind-all" $(of_kind "$trained") --against $(of_kind "$all") "$figures"
    contrast "$kind-but_embedding" $(of_kind "$trained") --against $(of_kind "$but_embedding") "$figures"
    mapfile -t some < <(of_kind "$runs")
    sae compare --json --quiet "a=${some[0]}" "b=[$(printf '%s\n' "${some[@]:1}" | joined)]" one_to_one=false \
        "${measure[@]}" >"$documents/$kind.json"
done
answer random_control
printf '%s\n' $runs $(runs_of relu topk) | report
