#!/usr/bin/env bash
# What are features of each frequency worth to the model? Takes out one tenth of the features after another in the order
# of how often they fire, each beside others, drawn at random, that fire as often in total.
#
#   experiments/frequency-worth.sh
#   experiments/frequency-worth.sh bands=4                 # quarters
#   experiments/frequency-worth.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
bands=10
overrides=()
for each in "$@"; do
    case $each in bands=*) bands=${each#*=} ;; *) overrides+=("$each") ;; esac
done
with_defaults tokens=200_000 seed=0,1,2 control=0 recenter=true eval.tokens=10_000 features.tokens=40_000 \
    -- ${overrides[@]+"${overrides[@]}"}
cost "$(many seed)" $(((1 + 2 * bands) * $(many seed)))

whole=$(together)
printf '%s\n' "$whole" | measured whole
other=()
for each in "${prune[@]}"; do case $each in control=*) ;; *) other+=("$each") ;; esac done
all=()
for ((n = 1; n <= bands; n++)); do
    band=$(awk -v n="$n" -v of="$bands" 'BEGIN { printf "[%.6g,%.6g]", (n - 1) / of, n / of }')
    without=$(printf '%s\n' "$whole" | pruned "band=$band" "${other[@]}")
    printf '%s\n' "$without" | measured "band-$n"
    contrast "worth-$n" $without --against $whole 'figures=[ce_increase,fvu]'
    all+=($without)
    # The most frequent may fire more often than all others together.
    others=$(printf '%s\n' "$whole" \
        | unless_refused "control-$n" pruned "band=$band" "control=$(setting control)" "${other[@]}")
    if [ -n "$others" ]; then
        printf '%s\n' "$others" | measured "random-$n"
        contrast "control-$n" $without --against $others 'figures=[ce_increase,fvu]'
        all+=($others)
    fi
done
answer frequency_worth
printf '%s\n' $whole "${all[@]}" | report
