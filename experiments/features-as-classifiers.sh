#!/usr/bin/env bash
# Are features classifiers of concepts? The best feature of each concept of Python against the token, coordinates and
# random directions, with the floor of "the best of F"; whether several that agree have fewer false positives than a
# dense probe; and whether taking out the features of a spurious companion lets a probe generalize. The same on a network
# with random weights beside it.
#
#   experiments/features-as-classifiers.sh
#   experiments/features-as-classifiers.sh labels=python.param,python.docstring seed=0
#   experiments/features-as-classifiers.sh confound=python.defined:python.seen scheme=norm_preserving
source "$(dirname "$0")/common.sh"
labels=python confound=python.defined:python.seen agree=4
probe=() judges=()
overrides=()
for each in "$@"; do
    case $each in
        labels=*) labels=${each#*=} ;;
        confound=*) confound=${each#*=} ;;
        agree=*) agree=${each#*=} ;;
        judge.*) judges+=("$each") ;;
        probe.* | baselines=* | k=*) probe+=("$each") ;;
        *) overrides+=("$each") ;;
    esac
done
with_defaults tokens=300_000 seed=0,1,2 eval.tokens=10_000 features.tokens=20_000 scheme=reinit \
    -- ${overrides[@]+"${overrides[@]}"}
cost $((2 * $(many seed))) $((2 * $(many seed)))

trained=$(together)
mapfile -t own < <(settings_but model model.path model.revision seed)
random=
for seed in $(values seed); do
    network=$(sae randomize-weights "seed=$seed" "${weights[@]}" ${model[@]+"${model[@]}"})
    random+=$(sae train model=run "model.path=$network" "seed=$seed" "${own[@]}")$'\n'
done
number=0
while read -r run control; do
    number=$((number + 1))
    sae probe "$run" "labels=$labels" "agree=$agree" "control=$control" --json --quiet \
        ${probe[@]+"${probe[@]}"} >"$documents/probe-$number.json"
    sae probe "$run" "confound=$confound" "control=$control" --json --quiet \
        ${probe[@]+"${probe[@]}"} ${judges[@]+"${judges[@]}"} >"$documents/confound-$number.json"
done < <(paste -d' ' <(printf '%s\n' $trained) <(printf '%s\n' $random))
answer features_as_classifiers
printf '%s\n' $trained $random | report
