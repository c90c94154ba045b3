#!/usr/bin/env bash
# What does sparsity cost? A sweep of L1, every dictionary trained on one pass over the text.
#
#   experiments/l1-frontier.sh
#   experiments/l1-frontier.sh model=pythia70m layer=3 data=pile dict_size=8192 tokens=100_000_000 l1=1,2,4,8
source "$(dirname "$0")/common.sh"
with_defaults tokens=300_000 l1=0.5,1,2,4 seed=0,1,2 eval.tokens=30_000 features.tokens=100_000 -- "$@"

runs=$(together)
printf '%s\n' "$runs" | measured | answer l1_frontier
printf '%s\n' "$runs" | report
