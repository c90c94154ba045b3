#!/usr/bin/env bash
# Is it good enough? The model that runs on dictionaries, placed among smaller models: one layer at a time and all
# layers at once; by domain; and a dictionary trained on one domain beside one trained on all of them.
#
#   experiments/good-enough.sh
#   experiments/good-enough.sh model=pythia70m layer=0,1,2,3,4,5 references=[pythia14m,pythia31m] \
#       data=pile data.domain=meta.pile_set_name narrow=Github dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
references=[demo-xs,demo-s]
narrow= # the domain with the most held-out documents, unless one is given
overrides=()
for each in "$@"; do
    case $each in
        references=*) references=${each#*=} ;;
        narrow=*) narrow=${each#*=} ;;
        *) overrides+=("$each") ;;
    esac
done
with_defaults layer=0,1,2,3 sae=topk tokens=100_000 seed=0,1,2 eval.tokens=20_000 features.tokens=10_000 \
    -- ${overrides[@]+"${overrides[@]}"}
cost $((2 * $(many layer seed))) "$((4 * $(many layer seed))) alone and $(many seed) together"

wide=$(together)
printf '%s\n' "$wide" | measured alone "references=$references"
narrow=${narrow:-$("$python" "$here/answers/largest_domains.py" "$documents" 1)}
one_domain=$(together "data.domains=['$narrow']")

groups=()
for seed in $(values seed); do groups+=("[$(printf '%s\n' "$wide" | of_seed "$seed" | joined)]"); done
joint=()
for each in "${measure[@]}"; do
    case $each in eval.*) joint+=("$each") ;; esac
done
sae eval -m --json --quiet "run=$(printf '%s\n' "${groups[@]}" | joined)" "references=$references" "${joint[@]}" \
    >"$documents/together.json"
# What the narrow dictionaries lose on the text of all domains, and both kinds on that of the one.
text=$(setting data)
text=("data=${text:-stdlib}" $(settings_of data))
printf '%s\n' "$one_domain" | measured narrow "${text[@]}"
printf '%s\n' "$wide" "$one_domain" | measured on_narrow "${text[@]}" "data.domains=['$narrow']"
answer good_enough "$narrow"
printf '%s\n' $wide $one_domain | report
