#!/usr/bin/env bash
# What is training a dictionary worth? Trained ones against those whose decoder stays at random directions, whose decoder
# rows stay near where they began, and whose encoder stays random: all with the same L0 (TopK); and against the mean
# activation of the last two tokens.
#
#   experiments/frozen-control.sh
#   experiments/frozen-control.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000
#   experiments/frozen-control.sh floor=.9                 # least cosine with where a row began, of the softly frozen
source "$(dirname "$0")/common.sh"
floor=0.8
overrides=()
for each in "$@"; do
    case $each in floor=*) floor=${each#*=} ;; *) overrides+=("$each") ;; esac
done
with_defaults sae=topk tokens=200_000 seed=0,1,2 eval.tokens=20_000 features.tokens=40_000 \
    -- ${overrides[@]+"${overrides[@]}"}
cost $((4 * $(many seed))) $((4 * $(many seed)))

trained=$(together)
declare -A frozen
frozen[decoder]=$(together 'train.freeze=[decoder]')
frozen[soft]=$(together "sae.decoder_cosine_floor=$floor")
frozen[encoder]=$(together 'train.freeze=[encoder]')
printf '%s\n' "$trained" | measured trained
contrast token2 $trained --against token2 'figures=[ce_increase,fvu]'
for kind in decoder soft encoder; do
    printf '%s\n' "${frozen[$kind]}" | measured "$kind"
    contrast "against-$kind" $trained --against ${frozen[$kind]} \
        'figures=[ce_increase,fvu,token_entropy_median]'
done
answer frozen_control "$floor"
printf '%s\n' $trained ${frozen[decoder]} ${frozen[soft]} ${frozen[encoder]} | report
