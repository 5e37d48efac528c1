#!/bin/bash
# Predictions: from the table of machines without any of them, and from measurements made here.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
export OMP_NUM_THREADS=1

"$vasily" plan tiny.yaml --cluster h200 --ranks 12 --per-rank 4 --json > cluster.json 2> plan.log || fail "plan --cluster"
for ranks in 1 2 4 8 12; do contains cluster.json "{\"ranks\": $ranks, \"step_seconds\":"; done
contains cluster.json '"communication_seconds": 0.0, "exposed_seconds": 0.0' # of one rank
"$vasily" plan tiny.yaml --cluster h200 --ranks 10000 --per-rank 4 > cluster.txt 2> plan.log || fail "10000 ranks"
contains cluster.txt "rank-hours"
expect 2 wrong.log "$vasily" plan tiny.yaml --cluster h2000 --ranks 2
contains wrong.log "a100, h100, h200"
expect 2 wrong.log "$vasily" plan tiny.yaml --ranks 2 --network 10
contains wrong.log "--cluster NAME"
expect 2 wrong.log "$vasily" plan tiny.yaml --ranks 2 --machines table.yaml
contains wrong.log "--cluster NAME"
expect 2 wrong.log "$vasily" plan tiny.yaml --ranks 2 --calibration step.json --compute-share 0.5
contains wrong.log "--cluster NAME"
expect 2 wrong.log "$vasily" plan tiny.yaml --ranks 7 --cluster h200
contains wrong.log "--per-rank"
expect 3 wrong.log "$vasily" plan tiny.yaml --calibration tiny.yaml
contains wrong.log "bench comm --json"

# A slower network is slower, and what is told wins over the table.
seconds_on() { # seconds_on OPTION...: of the last row
    "$vasily" plan tiny.yaml --cluster h100 --ranks 16 --per-rank 2 --json "$@" 2> plan.log |
        sed 's/.*"ranks": 16, "step_seconds": *\([^,]*\).*/\1/'
}
[ "$(awk "BEGIN { print ($(seconds_on --network 0.01) > 2 * $(seconds_on)) }")" = 1 ] || fail "--network changes nothing"

# Groups are a machine's ranks: the table's, or those that are told.
cat > fours.yaml <<'YAML'
machines:
  - {name: four, per_node: 4, flops: 1.0e12, memory_bytes: 2.0e9, memory_rate: 1.0e11, link_rate: 1.0e10, network_rate: 1.0e9}
YAML
sent() { # sent OPTION...: bytes of a rank
    "$vasily" plan tiny.yaml --cluster four --machines fours.yaml --ranks 16 --per-rank 2 --json "$@" 2> plan.log |
        sed -n 's/.*"communication_per_step": *\([0-9]*\).*/\1/p'
}
fours=$(sent parallel.shard=node)
[ -n "$fours" ] && [ "$fours" = "$(sent parallel.shard=node parallel.group=4)" ] || fail "groups are not the table's"
[ "$(sent parallel.shard=node --per-node 2)" = "$(sent parallel.shard=node parallel.group=2)" ] || fail "groups, --per-node"
[ "$fours" != "$(sent parallel.shard=node parallel.group=8)" ] || fail "groups of 4 and 8 send the same"

expect 2 wrong.log "$vasily" bench comm
contains wrong.log "one rank communicates with nobody"
expect 2 wrong.log "$here/../../launch/mpirun" 2 "$vasily" bench comm --sizes 1Mi,x
contains wrong.log "--sizes 1Mi,x"
expect 2 wrong.log "$here/../../launch/mpirun" 2 "$vasily" bench comm --sizes 1Ki,8Gi
contains wrong.log "8Gi is more than MPI sends at once; at most 8191Mi"
expect 2 wrong.log "$here/../../launch/mpirun" 2 "$vasily" bench comm --sizes 1,64
contains wrong.log "two different sizes"
"$here/../../launch/mpirun" 2 "$vasily" bench comm --sizes 16Ki,256Ki --seconds 0.02 --alone --json > comm.json 2> bench.log ||
    fail "bench comm"
[ "$(grep -o '"bus_bytes_per_second"' comm.json | wc -l)" = 10 ] || fail "bench comm: 5 collectives of 2 sizes"
"$vasily" bench step tiny.yaml train.global_batch=4 --frozen --steps 2 --warmup 1 --json > step.json 2> bench.log ||
    fail "bench step"
measured=(--ranks 2 --calibration step.json --calibration comm.json)
"$vasily" plan tiny.yaml "${measured[@]}" > measured.txt 2> plan.log || fail "plan --calibration"
contains measured.txt "predicted, as measured, 4 images a rank"
# The link that was measured on a machine is that of its ranks; more of them take the other link, too.
more=(--ranks 8 --per-rank 4 --calibration step.json --calibration comm.json)
expect 2 wrong.log "$vasily" plan tiny.yaml "${more[@]}"
contains wrong.log "8 ranks on machines of 2, and nothing says how fast these communicate"
sed 's/"local_ranks": 2/"local_ranks": 1/' comm.json > net.json
"$vasily" plan tiny.yaml "${more[@]}" --calibration net.json > measured.txt 2> plan.log || fail "both links measured"
contains measured.txt "2 ranks a machine"
"$vasily" plan tiny.yaml "${more[@]}" --per-node 8 > measured.txt 2> plan.log || fail "plan --per-node"
contains measured.txt "8 ranks a machine"
"$vasily" plan tiny.yaml --ranks 8 --per-rank 4 --calibration step.json --calibration net.json > measured.txt \
    2> plan.log || fail "one rank a machine"
contains measured.txt "1 ranks a machine"
expect 2 wrong.log "$vasily" plan tiny.yaml --ranks 8 --per-rank 4 --calibration step.json --nvlink 300 --network 25
contains wrong.log "give --per-node"
expect 6 wrong.log "$vasily" plan tiny.yaml "${measured[@]}" train.global_batch=16
contains wrong.log "the same train.micro_batch"
expect 6 wrong.log "$vasily" plan tiny.yaml "${measured[@]}" model.res_blocks=2
expect 2 wrong.log "$vasily" plan tiny.yaml --ranks 2 --calibration step.json
contains wrong.log "how fast ranks communicate"
