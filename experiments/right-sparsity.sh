#!/usr/bin/env bash
# How sparse should a dictionary be? A sweep of k: where the truth is known, at which k is most of it found; and on the
# model, at which k do dictionaries of different seeds agree most?
#
#   experiments/right-sparsity.sh
#   experiments/right-sparsity.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000 k=16,32,64,128
source "$(dirname "$0")/common.sh"
with_defaults sae=topk k=4,8,16,32,64 tokens=150_000 seed=0,1,2 eval.tokens=10_000 features.tokens=40_000 -- "$@"
cost $((2 * $(many k seed))) $((2 * $(many k seed)))

mapfile -t own < <(settings_but model model.path model.revision hook layer data)
truth=$(sae train -m data=synthetic "${own[@]}")
printf '%s\n' "$truth" | measured_truth truth
runs=$(together)
printf '%s\n' "$runs" | measured evaluations
of_k() { printf '%s\n' "$2" | grep -E -- "-k_?$1-|/topk-F[0-9]+-k_?$1(-|\$)"; }
for k in $(values k | sort -n); do
    mapfile -t some < <(of_k "$k" "$runs")
    if [ "${#some[@]}" -gt 1 ]; then
        sae compare --json --quiet "a=${some[0]}" "b=[$(printf '%s\n' "${some[@]:1}" | joined)]" one_to_one=false \
            "${measure[@]}" >"$documents/agreement-$k.json"
    fi
done
n=0 before=
for k in $(values k | sort -n); do
    if [ -n "$before" ]; then
        n=$((n + 1))
        contrast "truth-$n" $(of_k "$k" "$truth") --against $(of_k "$before" "$truth") \
            'figures=[mmcs_truth_to_dictionary,truth_recovered_0.9]'
    fi
    before=$k
done
answer right_sparsity
printf '%s\n' $runs $truth | report
