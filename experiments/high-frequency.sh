#!/usr/bin/env bash
# Are high-frequency features needed? A low L1 followed by pruning the most frequent features, against a higher L1.
#
#   experiments/high-frequency.sh                          # the embedded model
#   experiments/high-frequency.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
with_defaults tokens=400_000 l1=0.3,0.6,1.2,2.4 seed=0,1 eval.tokens=20_000 features.tokens=80_000 -- "$@"

# One sweep, one pass over the text; the first L1 is the low one that is pruned.
sweep=$(together)
l1=$(setting l1)
mapfile -t others < <(settings_but l1)
low=$(sae train -m --quiet "l1=${l1%%,*}" "${others[@]}")

pruned=$(printf '%s\n' "$low" | while read -r run; do
    sae prune-high-freq -m "run=$run" max_freq=0.1,0.2,0.3 recenter=false,true "${measure[@]}"
done)
printf '%s\n' "$sweep" "$pruned" | measured | answer high_frequency
printf '%s\n' "$sweep" "$pruned" | report
