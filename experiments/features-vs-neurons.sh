#!/usr/bin/env bash
# Are features better than neurons? A dictionary of MLP activations against neurons, random directions, PCA and ICA,
# each at the dictionary's own L0; and a case whose truth is known.
#
#   experiments/features-vs-neurons.sh
#   experiments/features-vs-neurons.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
#   experiments/features-vs-neurons.sh against=token,token2,random
source "$(dirname "$0")/common.sh"
bases=token,neurons,random,pca,ica
overrides=()
for each in "$@"; do
    case $each in against=*) bases=${each#*=} ;; *) overrides+=("$each") ;; esac
done
with_defaults hook=mlp_act tokens=200_000 seed=0,1,2 eval.tokens=20_000 features.tokens=40_000 \
    -- ${overrides[@]+"${overrides[@]}"}
cost "$(many seed)" "$(many seed), each with ${bases//,/, },"

runs=$(together)
truth=$(sae train -m data=synthetic "seed=$(setting seed)")
printf '%s\n' "$runs" | measured evaluations "baselines=[$bases]"
printf '%s\n' "$truth" | measured_truth truth
contrast bases $runs --against ${bases//,/ } 'figures=[ce_increase,fvu]'
answer features_vs_neurons
printf '%s\n' $runs $truth | report
