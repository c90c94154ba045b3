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
with_defaults tokens=200_000 seed=0,1,2 control=0 recenter=true eval.tokens=10_000 features.tokens=20_000 \
    -- ${overrides[@]+"${overrides[@]}"}
cost "$(many seed)" $(((1 + 2 * bands) * $(many seed)))

whole=$(together)
printf '%s\n' "$whole" | measured whole
other=()
for each in "${prune[@]}"; do case $each in control=*) ;; *) other+=("$each") ;; esac done
band() { awk -v n="$1" -v of="$bands" 'BEGIN { printf "%.6g'"$2"'%.6g", (n - 1) / of, n / of }'; }
of_band() { grep -E -- "band_$(band "$1" _)(-[^/]*)?\$" || true; }
all=
for ((n = 1; n <= bands; n++)); do all+="[$(band "$n" ,)]"$'\n'; done
every=band=$(printf '%s' "$all" | joined)
without=$(printf '%s\n' "$whole" | pruned "$every" "${other[@]}")
# The most frequent may fire more often than all others together: of them there is no control.
control=control=$(setting control)
others=$(printf '%s\n' "$whole" | unless_refused controls pruned "$every" "$control" "${other[@]}")
for ((n = 1; n <= bands; n++)); do
    these=$(printf '%s\n' "$without" | of_band "$n")
    printf '%s\n' "$these" | measured "band-$n"
    contrast "worth-$n" $these --against $whole 'figures=[ce_increase,fvu]'
    if [ -n "$(printf '%s\n' "$others" | of_band "$n")" ]; then
        printf '%s\n' "$others" | of_band "$n" | measured "random-$n"
        contrast "control-$n" $these --against $(printf '%s\n' "$others" | of_band "$n") 'figures=[ce_increase,fvu]'
    else
        cp "$documents/controls.why" "$documents/control-$n.why"
    fi
done
answer frequency_worth
printf '%s\n' $whole $without $others | report
