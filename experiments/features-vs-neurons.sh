#!/usr/bin/env bash
# Are features better than neurons? A dictionary of MLP activations against neurons, random directions, PCA and ICA,
# each at the dictionary's own L0; and a case whose truth is known.
#
#   experiments/features-vs-neurons.sh
#   experiments/features-vs-neurons.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
with_defaults hook=mlp_act tokens=300_000 seed=0,1,2 eval.tokens=20_000 features.tokens=50_000 -- "$@"

runs=$(together)
truth=$(sae train data=synthetic)

documents=$(mktemp -d)
trap 'rm -rf "$documents"' EXIT
printf '%s\n' "$runs" | measured >"$documents/evaluations.json"
printf '%s\n' "$runs" | head -n 1 | measured 'baselines=[neurons,random,pca,ica]' >"$documents/baselines.json"
sae compare --json --quiet "a=$truth" b=truth >"$documents/truth.json"
python3 "$here/answers/features_vs_neurons.py" "$documents"/{evaluations,baselines,truth}.json
{ printf '%s\n' "$runs" && runs_of "$documents/truth.json"; } | report
