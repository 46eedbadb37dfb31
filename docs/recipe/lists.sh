#!/bin/sh
# Makes ranking lists with teachers' scores by the hundred thousand. Killed at any moment, the same command goes on.
#
#   docs/recipe/lists.sh DATA MODELS WORK [BLOCKS]
#
# DATA     rerank/train/, queries/, classify/train/; the texts of rerank/eval/ and classify/eval/ are kept out of all lists
# MODELS   a folder for each teacher: all-mpnet-base-v2 (as sentence-transformers has it), bge-small-en,
#          ms-marco-MiniLM-L-12, answerai-colbert-small (int8 ONNX: model.onnx, tokenizer.json)
# WORK     where everything is written: block-NN/, packed/lists-NN.npz, records.jsonl, texts-NN/, dev/; packed files of
#          an earlier run that lie there are gone on with
# BLOCKS   how many of the 16 blocks of some 19,000 lists; 6 unless given
#
# A block is hours of one core, so that each is worth having: it is packed when it is mined, and again when it is scored.
# Needs pip install '.[mining]'
set -eu
data=$(cd "$1" && pwd) models=$(cd "$2" && pwd) blocks=${4:-6}
mkdir -p "$3/packed"
cd "$3"

lists() { python -m gliclass_rerank.learn.data.lists "$@"; }
pack() { lists pack --work . --block "$1" --out "packed/lists-$(printf %02d "$1").npz"; }

block=0
while [ "$block" -lt "$blocks" ]; do
    nn=$(printf %02d "$block")
    if [ -f "packed/lists-$nn.npz" ] && [ ! -f "block-$nn/lists.npz" ]; then
        mkdir -p "block-$nn"
        cp "packed/lists-$nn.npz" "block-$nn/lists.npz.new"
        mv "block-$nn/lists.npz.new" "block-$nn/lists.npz"
    fi
    lists mine --data "$data" --work . --block "$block" --teacher bge-small-en --model "$models/bge-small-en"
    pack "$block"
    block=$((block + 1))
done
block=0
while [ "$block" -lt "$blocks" ]; do
    lists encode --data "$data" --work . --block "$block" --teacher all-mpnet-base-v2 --model "$models/all-mpnet-base-v2" \
        --for-mixtures
    for name in ms-marco-MiniLM-L-12 answerai-colbert-small; do
        lists score --data "$data" --work . --block "$block" --teacher "$name" --model "$models/$name"
    done
    pack "$block"
    out=texts-$(printf %02d "$block")
    [ -d "$out" ] || [ ! -f "block-${out#texts-}/vectors/all-mpnet-base-v2.f16" ] || lists texts --data "$data" --work . --block "$block" --out "$out" \
        --teacher all-mpnet-base-v2 --teacher bge-small-en
    block=$((block + 1))
done
lists join --data "$data" --mixed-only --out records.jsonl packed/lists-*.npz
[ -d dev ] || lists dev --data "$data" --out dev
