#!/usr/bin/env bash
# Are the defaults of longer runs, which are scaled, as good as those of short ones? A line a training: L0 and held-out
# FVU (docs/training.md, "Long runs"). Harvests 5 GB first; an hour or so on two cores.
set -euo pipefail
runs=${1:-runs/longer}
text=(model=demo layer=3 tokens=6_000_000 "runs_dir=$runs")
sae harvest "${text[@]}" >/dev/null

row() {  # NAME OVERRIDES…
    sae train "${text[@]}" dict_size=512 "${@:2}" "name=$1" >/dev/null
    python -c 'import json, sys
facts = json.load(open(sys.argv[1] + "/manifest.json"))["facts"]
print(sys.argv[1], facts["held_out_l0"], facts["held_out_fvu"])' "$runs/$1"
}

short=(train.lr_warmup=.05)
square=(train.lr=2.0035e-3 train.lr_warmup=.0179)
row relu-unscaled l1=1 train.lr=5.6e-3 "${short[@]}"
row relu-default l1=1.05
row relu-square l1=1.1 "${square[@]}"
row relu-square-fit9 l1=1.1 "${square[@]}" sae.decoder_fit=.0897
row relu-square-fit5 l1=1 "${square[@]}" sae.decoder_fit=.0537
row relu-square-fit5-sparser l1=1.2 "${square[@]}" sae.decoder_fit=.0537
for seed in 0 1; do
    row "topk-unscaled-$seed" sae=topk k=32 "seed=$seed" train.lr=2e-3 "${short[@]}"
    row "topk-default-$seed" sae=topk k=32 "seed=$seed"
done
row topk-square sae=topk k=32 train.lr=7.155e-4 train.lr_warmup=.0179
