#!/usr/bin/env bash
# Promises to users of kcat, which carries an old librdkafka (Debian's is 2.0.2).
#
# Prints `ok - NAME` or `not ok - NAME # REASON` for each check. BOOTSTRAP is the broker's address.
# Modes: scenarios | cross-write | cross-read WRITER…
set -u

failed=0
codecs="none gzip snappy lz4 zstd"
count=300
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run="$$-$RANDOM"

kcat() { timeout 60 kcat -b "$BOOTSTRAP" -m 20 "$@" 2>>"$folder/errors"; }
# Partition 0 of a topic, up to its end.
consume() { kcat -C -e -q -X check.crcs=true -p 0 "$@"; }

verdict() { # NAME, then a command that must succeed
    local name=$1 reason
    shift
    if reason=$("$@" 2>&1); then
        echo "ok - kcat: $name"
    else
        failed=1
        reason="$reason; $(tail -n 3 "$folder/errors" 2>/dev/null)"
        echo "not ok - kcat: $name # $(echo "$reason" | tr '\n' ' ' | cut -c1-500)"
    fi
}

same() { # the files must be equal
    cmp "$1" "$2" || { echo "$(wc -l <"$1") lines expected, $(wc -l <"$2") lines found"; return 1; }
}

lists_cluster() {
    kcat -L | grep -q "broker .* at $BOOTSTRAP" || { echo "the broker is not listed"; return 1; }
    kcat -L -J | grep -q '"brokers":\[{"id":' || { echo "no JSON listing"; return 1; }
}

round_trip() { # CODEC
    local topic="kcat-$1-$run"
    seq 1 2000 | sed "s/^/key&:some text that compresses, number /" >"$folder/sent"
    kcat -P -t "$topic" -p 0 -K: -z "$1" <"$folder/sent" || return 1
    consume -t "$topic" -K: -o beginning >"$folder/got" || return 1
    same "$folder/sent" "$folder/got"
}

idempotent() {
    local topic="kcat-idempotent-$run"
    seq 1 5000 >"$folder/sent"
    kcat -P -t "$topic" -p 0 -X enable.idempotence=true -X batch.num.messages=100 <"$folder/sent" || return 1
    consume -t "$topic" -o beginning >"$folder/got" || return 1
    same "$folder/sent" "$folder/got"
}

query() { # TOPIC TIME OFFSET
    local found
    found=$(kcat -Q -t "$1:0:$2")
    [ "$found" = "$1 [0] offset $3" ] || { echo "offset at time $2: $found"; return 1; }
}
offsets() {
    local topic="kcat-offsets-$run" now
    seq 1 10 | kcat -P -t "$topic" -p 0 || return 1
    now=$(date +%s%3N)
    query "$topic" -2 0 && query "$topic" -1 10 && query "$topic" 1 0 || return 1
    [ "$(consume -t "$topic" -o -3 | tr '\n' ,)" = 8,9,10, ] || { echo "the last three"; return 1; }
    [ "$(consume -t "$topic" -o 4 -c 1)" = 5 ] || { echo "offset 4"; return 1; }
    [ "$(consume -t "$topic" -o s@1 -o "e@$((now + 100000))" | wc -l)" = 10 ] || { echo "by times"; return 1; }
}

headers_and_format() {
    local topic="kcat-format-$run" line
    echo value | kcat -P -t "$topic" -p 0 -k key -H a=1 -H b=2 || return 1
    line=$(consume -t "$topic" -o beginning -f '%t %p %o %k %s %h %S\n')
    [ "$line" = "$topic 0 0 key value a=1,b=2 5" ] || { echo "$line"; return 1; }
}

group() {
    local topic="kcat-group-$run"
    seq 1 100 >"$folder/sent"
    kcat -P -t "$topic" -p 0 <"$folder/sent" || return 1
    resume "$topic" 60 >"$folder/got" || { echo "first member"; return 1; }
    resume "$topic" 40 >>"$folder/got" || { echo "second member"; return 1; }
    same "$folder/sent" "$folder/got"
}
resume() { kcat -G "group-$run" -q -c "$2" -X auto.offset.reset=earliest -X session.timeout.ms=6000 "$1"; }

expected() { # WRITER CODEC: one line `INDEX<tab>VALUE` a message
    awk -v w="$1" -v c="$2" -v n="$count" 'BEGIN {
        for (i = 0; i < n; i++) { v = ""; for (j = 0; j <= i % 20; j++) v = v w "/" c "/" i ";"; print i "\t" v }
    }'
}

cross_write() {
    local codec
    for codec in $codecs; do
        expected kcat "$codec" | kcat -P -t "cross-kcat-$codec" -p 0 -K '\t' -z "$codec" || return 1
    done
}
cross_read() { # WRITER CODEC
    expected "$1" "$2" >"$folder/sent"
    consume -t "cross-$1-$2" -o beginning -f '%k\t%s\n' >"$folder/got" || return 1
    same "$folder/sent" "$folder/got"
}

mode=${1:-scenarios}
[ $# -gt 0 ] && shift
case $mode in
scenarios)
    verdict "the cluster is listed" lists_cluster
    for codec in $codecs; do
        verdict "records written with $codec come back in order" round_trip "$codec"
    done
    verdict "an idempotent producer's records come back in order" idempotent
    verdict "offsets are queried by position and by time" offsets
    verdict "keys, headers and sizes are shown" headers_and_format
    verdict "a group resumes where its last member stopped" group
    ;;
cross-write) verdict "writes with every codec" cross_write ;;
cross-read)
    for writer in "$@"; do
        for codec in $codecs; do
            verdict "reads what $writer wrote with $codec" cross_read "$writer" "$codec"
        done
    done
    ;;
*)
    echo "unknown mode $mode" >&2
    exit 2
    ;;
esac
exit $failed
