#!/usr/bin/env bash
# How much of a good reconstruction is the smallness of the text? Dictionaries of parts of a text that grow (one domain,
# several, all), each on the part that it was trained on, beside one of another part of the same size, one of all the
# text, and the means of the last two tokens; and whether domains use the same features.
#
#   experiments/sub-distribution.sh
#   experiments/sub-distribution.sh sizes=1,3,7 model=pythia70m layer=3 data=pile data.domain=meta.pile_set_name \
#       dict_size=8192 tokens=100_000_000
source "$(dirname "$0")/common.sh"
sizes=1,2,4 # domains in a part
overrides=()
for each in "$@"; do
    case $each in
        sizes=*) sizes=${each#*=} ;;
        *) overrides+=("$each") ;;
    esac
done
with_defaults data=installed sae=topk tokens=100_000 seed=0,1,2 eval.tokens=20_000 features.tokens=10_000 \
    -- ${overrides[@]+"${overrides[@]}"}
mapfile -t sizes < <(printf '%s\n' "$sizes" | tr , '\n' | sort -n)
largest=${sizes[-1]}
cost $(((1 + 2 * ${#sizes[@]}) * $(many seed))) $(((1 + 4 * ${#sizes[@]} + 2 * largest) * $(many seed)))

text=$(setting data)
text=("data=${text:-stdlib}" $(settings_of data))
everything=$(together)
printf '%s\n' "$everything" | measured alone
"$python" "$here/answers/largest_domains.py" "$documents" $((2 * largest)) >"$documents/domains.txt"
mapfile -t domains <"$documents/domains.txt"

# part FIRST SIZE: every second domain, from the first or the second of them, so that two parts are alike in size.
part() {
    local i found=()
    for ((i = $1; i < 2 * $2; i += 2)); do found+=("'${domains[i]}'"); done
    printf '%s\n' "${found[@]}" | joined
}
runs=("$everything")
for size in "${sizes[@]}"; do
    here_part=$(part 0 "$size") there_part=$(part 1 "$size")
    own=$(together "data.domains=[$here_part]")
    other=$(together "data.domains=[$there_part]")
    runs+=("$own" "$other")
    printf '%s\n' "$own" | measured "own-$size" "${text[@]}" "data.domains=[$here_part]" 'baselines=[token2]'
    printf '%s\n' "$other" "$everything" | measured "others-$size" "${text[@]}" "data.domains=[$here_part]"
    # Each where it was trained, so that the loss of moving is seen from both sides.
    printf '%s\n' "$other" | measured "other-at-home-$size" "${text[@]}" "data.domains=[$there_part]"
done
for ((i = 0; i < ${#domains[@]}; i++)); do
    printf '%s\n' "$everything" | measured "domain-$i" "${text[@]}" "data.domains=['${domains[i]}']"
done
answer sub_distribution "${sizes[@]}"
printf '%s\n' "${runs[@]}" | report
