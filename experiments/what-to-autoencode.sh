#!/usr/bin/env bash
# What should be autoencoded? A dictionary of every hook point of one layer, all with the same L0 (TopK): what each
# loses on the direct path and on all paths, its error seen from the residual stream and from the logits, what its
# features do to the logits, and whether dictionaries of different hook points find the same directions.
#
#   experiments/what-to-autoencode.sh
#   experiments/what-to-autoencode.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
with_defaults layer=2 tokens=150_000 k=32 seed=0,1 eval.tokens=20_000 features.tokens=50_000 -- "$@"
settings+=(sae=topk)

mapfile -t without_layer < <(settings_but layer)
runs=$(
    together hook=mlp_act,mlp_out,attn_out,resid,logit_update
    together hook=logit_update hook.mode=linear
    sae train -m hydra/launcher=shared hook=logits "${without_layer[@]}"
)

documents=$(mktemp -d)
trap 'rm -rf "$documents"' EXIT
printf '%s\n' "$runs" | measured >"$documents/evaluations.json"
seed=$(setting seed)
mapfile -t some < <(printf '%s\n' "$runs" | grep -E -- "-seed${seed%%,*}(-|\$)")
others=$(printf '%s\n' "${some[@]:1}" | joined)
sae compare --json --quiet "a=${some[0]}" "b=[$others]" space=logits one_to_one=false "${measure[@]}" \
    >"$documents/directions.json"
python3 "$here/answers/what_to_autoencode.py" "$documents"/{evaluations,directions}.json
{ printf '%s\n' "$runs" && runs_of "$documents/directions.json"; } | report
