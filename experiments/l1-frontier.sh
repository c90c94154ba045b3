#!/usr/bin/env bash
# What does sparsity cost? A sweep of L1, every dictionary trained on one pass over the text.
#
#   experiments/l1-frontier.sh
#   experiments/l1-frontier.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000 l1=1,2,4,8
#   experiments/l1-frontier.sh keep=0.95                   # the share of the loss that is to be recovered
source "$(dirname "$0")/common.sh"
keep=0.9
overrides=()
for each in "$@"; do
    case $each in keep=*) keep=${each#*=} ;; *) overrides+=("$each") ;; esac
done
with_defaults tokens=200_000 l1=0.5,1,2,4 seed=0,1,2 eval.tokens=30_000 features.tokens=60_000 \
    -- ${overrides[@]+"${overrides[@]}"}
cost "$(many l1 seed)" "$(many l1 seed)"

runs=$(together)
printf '%s\n' "$runs" | measured evaluations
mapfile -t others < <(settings_but l1)
of_l1() { sae train -m --quiet "l1=$1" "${others[@]}"; }
least=$(values l1 | sort -g | head -n 1)
most=$(values l1 | sort -g | tail -n 1)
if [ "$least" = "$most" ]; then
    echo "one value of l1: give several, as l1=0.5,1,2,4" >"$documents/cost.why"
else
    contrast cost $(of_l1 "$most") --against $(of_l1 "$least")
fi
answer l1_frontier "$keep"
printf '%s\n' "$runs" | report
