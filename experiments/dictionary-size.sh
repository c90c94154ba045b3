#!/usr/bin/env bash
# What does a larger dictionary buy, and do its features split? Dictionaries of several sizes with the same L0 (TopK),
# and of which features of the next size are those of the one before.
#
#   experiments/dictionary-size.sh
#   experiments/dictionary-size.sh model=pythia70m layer=3 data=pile dict_size=2048,8192,32768 tokens=100_000_000
source "$(dirname "$0")/common.sh"
with_defaults sae=topk dict_size=512,1024,2048,4096 tokens=200_000 seed=0,1,2 eval.tokens=20_000 \
    features.tokens=40_000 -- "$@"
cost "$(many dict_size seed)" "$(many dict_size seed)"

runs=$(together)
printf '%s\n' "$runs" | measured evaluations
of_size() { printf '%s\n' "$runs" | grep -- "-F$1-"; }
n=0 before=
while read -r size; do
    if [ -n "$before" ]; then
        n=$((n + 1))
        contrast "step-$n" $(of_size "$size") --against $(of_size "$before") \
            'figures=[ce_increase,fvu,token_entropy_median]'
        for seed in $(values seed); do
            smaller=$(of_size "$before" | of_seed "$seed")
            larger=$(of_size "$size" | of_seed "$seed")
            sae compare --json --quiet "a=$larger" "b=[$smaller]" one_to_one=false "${measure[@]}" \
                >"$documents/directions-$n-$seed.json"
        done
    fi
    before=$size
done < <(values dict_size | tr -d _ | sort -n)
answer dictionary_size
printf '%s\n' $runs | report
