#!/usr/bin/env bash
# Are high-frequency features needed? A low L1 followed by pruning the most frequent features, against the sweep of L1 at
# the same L0, and against pruning others, drawn at random, that fire as often in total.
#
#   experiments/high-frequency.sh                          # the embedded model; prunes 1 % and 4 % of the features
#   experiments/high-frequency.sh max_freq=0.1,0.2         # or those above a frequency, target_l0=, band=
#   experiments/high-frequency.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000 max_freq=.038
source "$(dirname "$0")/common.sh"
with_defaults tokens=200_000 l1=0.3,0.5,0.8,1.2,1.8,2.6 dict_size=2048 seed=0,1,2 control=0 recenter=true \
    eval.tokens=20_000 features.tokens=60_000 -- "$@"

# What is pruned: as given, else shares of the dictionary.
limits=()
for key in max_freq top_n target_l0 band; do
    while read -r value; do limits+=("$key=$value"); done < <(values "$key" | sed '/^$/d')
done
[ ${#limits[@]} -gt 0 ] || limits=("top_n=$(($(number dict_size) / 100))" "top_n=$(($(number dict_size) / 25))")
other=()
for each in "${prune[@]}"; do
    case $each in max_freq=* | top_n=* | target_l0=* | band=* | control=*) ;; *) other+=("$each") ;; esac
done
cost "$(many l1 seed)" $(($(many l1 seed) + 2 * ${#limits[@]} * $(many seed)))

# One sweep, one pass over the text; the lowest L1 is the one that is pruned.
sweep=$(together)
mapfile -t others < <(settings_but l1)
low=$(sae train -m --quiet "l1=$(values l1 | sort -g | head -n 1)" "${others[@]}")
printf '%s\n' "$sweep" | measured sweep

all=()
for i in "${!limits[@]}"; do
    limit=${limits[$i]} n=$((i + 1))
    pruned=$(printf '%s\n' "$low" | pruned "$limit" "${other[@]}")
    printf '%s\n' "$pruned" | measured "pruned-$n"
    contrast "curve-$n" $pruned --against $sweep curve=l0 'figures=[ce_increase,fvu]'
    others_pruned=$(printf '%s\n' "$low" \
        | unless_refused "control-$n" pruned "$limit" "control=$(setting control)" "${other[@]}")
    if [ -n "$others_pruned" ]; then
        printf '%s\n' "$others_pruned" | measured "random-$n"
        contrast "control-$n" $pruned --against $others_pruned 'figures=[ce_increase,fvu]'
        all+=($others_pruned)
    fi
    all+=($pruned)
done
answer high_frequency
printf '%s\n' $sweep "${all[@]}" | report
