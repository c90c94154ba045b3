#!/usr/bin/env bash
# What are rare features? Do they keep getting rarer, when dead ones are resampled around them and when none are? What do
# they have in common? Do they do useful work together, more than others that fire as often? Do they gather at another
# direction when theirs is forbidden?
#
#   experiments/rare-features.sh
#   experiments/rare-features.sh model=pythia70m layer=3 data=pile dict_size=32768 tokens=100_000_000 \
#       features.tokens=2_000_000 features.rare_below=1e-5
source "$(dirname "$0")/common.sh"
with_defaults dict_size=4096 l1=2 tokens=200_000 seed=0,1,2 sae.sparsity_warmup=0.1 sae.decoder_fit=0 control=0 \
    eval.tokens=20_000 features.tokens=100_000 features.rare_below=1e-3 -- "$@"
cost $((3 * $(many seed))) $((5 * $(many seed)))

# Steps and tokens at which things happen, as shares of the training.
tokens=$(number tokens)
batch=$(number train.batch_size)
steps=$((tokens / ${batch:-256}))
at() { # SHARES IN PERCENT...: a list of steps
    local each found=()
    for each in "$@"; do found+=($((steps * each / 100))); done
    printf '[%s]' "$(printf '%s\n' "${found[@]}" | joined)"
}
below=$(setting features.rare_below)

# A feature that has not fired for a twentieth of the training is resampled, if it is not exempt. The plain training of
# the same seed is the twin without: until then the two are the same.
plain=$(together "train.save_at=$(at 10 20 40 60 80 100)" "train.dead_after=$((tokens / 20))")
resampled=$(together "resample.at=$(at 40)" resample.exempt_fraction=0.5 "train.dead_after=$((tokens / 20))" \
    "resample.rewarm_steps=$((steps / 20 + 1))")
mapfile -t but_seed < <(settings_but seed)
forbidden=()
for seed in $(values seed); do
    run=$(printf '%s\n' "$plain" | of_seed "$seed")
    made=$(unless_refused forbidden \
        sae train "seed=$seed" "train.forbid_direction=$run" "train.forbid_below=$below" "${but_seed[@]}")
    forbidden+=($made)
done
printf '%s\n' "$plain" | measured plain
printf '%s\n' "$resampled" | measured resampled
[ ${#forbidden[@]} = 0 ] || printf '%s\n' "${forbidden[@]}" | measured forbidden

without=$(printf '%s\n' "$plain" | pruned "min_freq=$below")
contrast work $without --against $plain 'figures=[ce_increase,fvu]'
others=$(printf '%s\n' "$plain" \
    | unless_refused control pruned "min_freq=$below" "control=$(setting control)")
if [ -n "$others" ]; then
    contrast control $without --against $others 'figures=[ce_increase,fvu]'
fi
contrast resampling $resampled --against $plain 'figures=[fvu,ce_increase,l0]'
answer rare_features
printf '%s\n' $plain $resampled ${forbidden[@]+"${forbidden[@]}"} $without $others | report
