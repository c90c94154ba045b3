#!/usr/bin/env bash
# Is it good enough? The model that runs on dictionaries, placed among smaller models: one layer at a time and all
# layers at once; by domain; and a dictionary trained on one domain beside one trained on all of them.
#
#   experiments/good-enough.sh
#   experiments/good-enough.sh model=pythia70m layer=0,1,2,3,4,5 references=[pythia14m,pythia31m] \
#       data=pile data.domain=meta.pile_set_name narrow=Github dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
references=[demo-xs,demo-s]
narrow=asyncio
overrides=()
for each in "$@"; do
    case $each in
        references=*) references=${each#*=} ;;
        narrow=*) narrow=${each#*=} ;;
        *) overrides+=("$each") ;;
    esac
done
with_defaults layer=0,1,2,3 sae=topk tokens=150_000 seed=0,1 eval.tokens=20_000 features.tokens=20_000 \
    -- ${overrides[@]+"${overrides[@]}"}

wide=$(together)
one_domain=$(together "data.domains=[$narrow]")

# of_seed SEED: the runs of one seed among those that come in, as a list.
of_seed() { printf '[%s]' "$(grep -E -- "-seed$1(-|\$)" | joined)"; }

documents=$(mktemp -d)
trap 'rm -rf "$documents"' EXIT
printf '%s\n' "$wide" | measured "references=$references" >"$documents/alone.json"
joint=()
for measured_with in "${measure[@]}"; do
    case $measured_with in eval.*) joint+=("$measured_with") ;; esac
done
groups=()
for seed in $(setting seed | tr , ' '); do groups+=("$(printf '%s\n' "$wide" | of_seed "$seed")"); done
sae eval -m --json --quiet "run=$(printf '%s\n' "${groups[@]}" | joined)" "references=$references" "${joint[@]}" \
    >"$documents/together.json"
# What the narrow dictionaries lose on the text of all domains, and both kinds on that of the one.
text=$(setting data)
text=("data=${text:-stdlib}" $(settings_of data))
printf '%s\n' "$one_domain" | measured "${text[@]}" >"$documents/narrow.json"
printf '%s\n' "$wide" "$one_domain" | measured "${text[@]}" "data.domains=[$narrow]" >"$documents/on_narrow.json"
python3 "$here/answers/good_enough.py" "$narrow" "$documents"/{alone,together,narrow,on_narrow}.json
printf '%s\n' "$wide" "$one_domain" | report
