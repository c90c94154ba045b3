#!/bin/sh
# From text to a dictionary and its figures: harvest, train, evaluate. Overrides are passed to harvest and
# train alike:  experiments/demo.sh layer=1   Every finished run is found again, so a second time takes seconds.
set -eu

sae harvest "$@" >/dev/null
run=$(sae train "$@")
sae eval "$run" 'baselines=[token,token2]'
sae report "$run" >/dev/null
