#!/usr/bin/env bash
# What are rare features? Do they keep getting rarer (those that resampling leaves alone, against the rest)? What do
# they have in common? Do they do useful work together? Do they gather at another direction when theirs is forbidden?
#
#   experiments/rare-features.sh
#   experiments/rare-features.sh model=pythia70m layer=3 data=pile dict_size=32768 tokens=100_000_000 \
#       features.tokens=2_000_000 features.rare_below=1e-5
source "$(dirname "$0")/common.sh"
with_defaults dict_size=4096 l1=2 tokens=250_000 seed=0,1 sae.sparsity_warmup=0.1 sae.decoder_fit=0 \
    eval.tokens=20_000 features.tokens=120_000 features.rare_below=1e-3 -- "$@"

# Steps and tokens at which things happen, as shares of the training.
tokens=$(setting tokens | tr -d _)
batch=$(setting train.batch_size | tr -d _)
steps=$((tokens / ${batch:-256}))
at() { # SHARES IN PERCENT...: a list of steps
    local each found=()
    for each in "$@"; do found+=($((steps * each / 100))); done
    printf '[%s]' "$(printf '%s\n' "${found[@]}" | joined)"
}
below=$(printf '%s\n' "${measure[@]}" | sed -n 's/^features.rare_below=//p')

# A feature that has not fired for a twentieth of the training is resampled, if it is not exempt.
plain=$(together "train.save_at=$(at 10 20 40 60 80 100)")
resampled=$(together "resample.at=$(at 40)" resample.exempt_fraction=0.5 "train.dead_after=$((tokens / 20))" \
    "resample.rewarm_steps=$((steps / 20 + 1))")
mapfile -t but_seed < <(settings_but seed)
forbidden=$(for seed in $(setting seed | tr , ' '); do
    run=$(printf '%s\n' "$plain" | grep -E -- "-seed$seed(-|\$)")
    sae train "seed=$seed" "train.forbid_direction=$run" "train.forbid_below=$below" "${but_seed[@]}"
done)
pruned=$(sae prune-high-freq -m "run=$(printf '%s\n' "$plain" | joined)" "min_freq=$below" "${measure[@]}")
printf '%s\n' "$plain" "$resampled" "$forbidden" "$pruned" | measured | answer rare_features
printf '%s\n' "$plain" "$resampled" "$forbidden" "$pruned" | report
