#!/usr/bin/env bash
# What should be autoencoded? A dictionary of every hook point of one layer, all with the same L0 (TopK): what each
# loses on the direct path and on all paths, its error seen from the residual stream and from the logits, what its
# features do to the logits, and whether dictionaries of different hook points find the same directions.
#
#   experiments/what-to-autoencode.sh
#   experiments/what-to-autoencode.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
with_defaults layer=2 tokens=150_000 k=32 seed=0,1,2 eval.tokens=20_000 features.tokens=40_000 -- "$@"
settings+=(sae=topk)
cost $((7 * $(many seed))) $((7 * $(many seed)))

mapfile -t without_layer < <(settings_but layer)
runs=$(
    together hook=mlp_act,mlp_out,attn_out,resid,logit_update
    together hook=logit_update hook.mode=linear
    sae train -m hydra/launcher=shared hook=logits "${without_layer[@]}"
)
printf '%s\n' "$runs" | measured evaluations
of_hook() { printf '%s\n' "$runs" | grep -F "/$1."; }
exact=$(of_hook logit_update)
linear=$(of_hook logit_update-linear)
contrast mlp_act $(of_hook mlp_act) --against $(of_hook mlp_out) \
    'figures=[ce_increase,ce_increase_direct,fvu_resid,fvu_logit]'
contrast linear $linear --against $(of_hook mlp_out) 'figures=[ce_increase,ce_increase_direct,fvu_resid,fvu_logit]'
contrast exact $exact --against $(of_hook mlp_out) 'figures=[ce_increase_direct]'

first=$(values seed | head -n 1)
mapfile -t some < <(printf '%s\n' "$runs" | of_seed "$first")
sae compare --json --quiet "a=${some[0]}" "b=[$(printf '%s\n' "${some[@]:1}" | joined)]" space=logits \
    one_to_one=false "${measure[@]}" >"$documents/directions.json"
answer what_to_autoencode
printf '%s\n' $runs $(runs_of directions) | report
