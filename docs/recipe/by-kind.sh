#!/bin/sh
# Trains both networks of the bundled cascade on, each kind of lists towards the teachers that are right there.
# Killed at any moment, the same command goes on.
#
#   docs/recipe/by-kind.sh DATA WORK [MINUTES]
#
# DATA      the data folder of lists.sh
# WORK      its work folder: packed/lists-NN.npz; what is trained is written there too
# MINUTES   of each of the two trainings, which then stops and can go on; until it is finished unless given
#
# Needs pip install '.[train,mining]'
set -eu
recipe=$(cd "$(dirname "$0")" && pwd)
data=$(cd "$1" && pwd) minutes=${3:-}
cd "$2"

join() { # OUT KIND ...
    out=$1
    shift
    for kind; do
        set -- "$@" --kind "$kind"
        shift
    done
    [ -f "$out" ] || python -m gliclass_rerank.learn.data.lists join --data "$data" --mixed-only --out "$out" "$@" packed/lists-*.npz
}
join web.jsonl web web-asked web-keywords web-reworded sentences
join faq.jsonl medical-asked technical-reworded
join similar.jsonl similar
join technical.jsonl medical medical-long technical technical-long code terms papers titles \
    beginnings-wiki beginnings-technical joined-web joined-technical

# Judged examples beside queries, for the second network: similar queries, and rewordings of the query itself.
[ -f shown.jsonl ] || {
    cat web.jsonl technical.jsonl > shown-all.jsonl
    gliclass-rerank rac-data --data shown-all.jsonl --out shown-rac.jsonl --random-share 0.2 --seed 1
    python "$recipe/rewordings.py" shown-rac.jsonl shown.jsonl
    rm -f shown-all.jsonl shown-rac.jsonl
}

# Labels beside texts, with judged examples among which 30 % are of other records, as upstream's recipe has it.
for name in banking77 clinc150 go_emotions mag_paper_field sms_spam; do
    [ -f "rac-$name.jsonl" ] || gliclass-rerank rac-data --data "$data/classify/train/$name" --out "rac-$name.jsonl" --records 2000
done

bundled() { python -c 'import sys; from gliclass_rerank.checkpoint.location import bundled_folder as at; print(at(sys.argv[1]))' "$1"; }
[ -e first-before ] || ln -s "$(bundled minilm-l6-v1)" first-before
[ -e second-before ] || ln -s "$(bundled minilm-cascade-v1)/second" second-before
cp "$recipe/by-kind-first.yaml" "$recipe/by-kind-second.yaml" .
gliclass-rerank train by-kind-first.yaml ${minutes:+--minutes "$minutes"}
gliclass-rerank train by-kind-second.yaml ${minutes:+--minutes "$minutes"}

rm -rf first-by-kind second-by-kind cascade ranker
gliclass-rerank average first-by-kind by-kind-first-run/last first-before --dtype int8
gliclass-rerank average second-by-kind by-kind-second-run/last second-before --dtype int8
gliclass-rerank cascade cascade --first first-by-kind --second second-by-kind --refined 20 --first-share 0.8 \
    --first-share-with-examples 0.6 --sure-bonus 2 -10 --no-first-reads-examples
gliclass-rerank calibrate ranker cascade --data "$data/rerank/train/selqa:train" --limit 250
