#!/bin/bash
# slow_link.sh PROGRAM MAKE_TEST_SHARDS [--long]: two ranks, each on a machine of its own with a slow link between.
#
# The machines are network and host-name namespaces of this one, joined by a pair of virtual interfaces of which each
# end sends no faster than a token bucket lets it. It needs root and the kernel's namespaces, veth and tbf; without them
# it prints SKIPPED and ends with 77.
#
# Short: training with and without overlap gives the same losses, and the model takes the measurements.
# --long, on a machine that does nothing else: with a link that takes as long as the backward pass,
# overlap hides at least half of the communication, and the model, calibrated by `vasily bench step` and `vasily bench
# comm` on the same link, predicts what is exposed with and without overlap within 20% (docs/scaling.md). With a divided
# optimizer the prediction is printed only.
# shellcheck disable=SC2154 # common.sh sets work, vasily, make_test_shards
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
long=
if [ "${3-}" = --long ]; then long=1; fi
rounds=1 steps=3 measure=0.05
[ -n "$long" ] && rounds=6 steps=7 measure=0.2

skip() {
    echo "SKIPPED the slow link: $1"
    exit 77
}

# ---- two machines ----

if [ -z "${SLOW_LINK_INSIDE-}" ]; then
    [ "$(id -u)" = 0 ] || skip "network namespaces take root"
    for tool in unshare nsenter ip tc; do
        command -v $tool >/dev/null || skip "$tool is not installed"
    done
    unshare --net --uts true 2>/dev/null || skip "this machine gives no network namespaces"
    SLOW_LINK_INSIDE=1 exec unshare --net --uts bash "$0" "$@"
fi

# shellcheck source=tests/train/common.sh
source "$here/../train/common.sh"
unshare --net --uts sleep 3600 &
other=$!
trap 'kill $other 2>/dev/null; rm -rf "$work"' EXIT
for ((i = 0; i < 50; i++)); do # till it is in namespaces of its own
    [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break
    sleep 0.1
done
there() { nsenter -t $other -n -u "$@"; }
hostname slow-link-0
there hostname slow-link-1
ip link add ends0 type veth peer name ends1 netns $other 2>link.log || skip "no veth: $(cat link.log)"
ip link set lo up
ip addr add 10.77.0.1/24 dev ends0
ip link set ends0 up
there ip link set lo up
there ip addr add 10.77.0.2/24 dev ends1
there ip link set ends1 up

limit() { # limit BITS_PER_SECOND
    local bucket="rate $1bit burst 64kb latency 200ms"
    # shellcheck disable=SC2086
    if ! { tc qdisc replace dev ends0 root tbf $bucket && there tc qdisc replace dev ends1 root tbf $bucket; } 2>link.log; then
        skip "no token bucket: $(cat link.log)"
    fi
}
limit 1000000000

cat >agent <<SCRIPT
#!/bin/bash
shift # the address
exec nsenter -t $other -n -u -- bash -c "\$*"
SCRIPT
chmod +x agent
export OMPI_MCA_plm_rsh_agent=$work/agent PRTE_MCA_plm_ssh_agent=$work/agent
export OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=10.77.0.0/24 OMPI_MCA_oob_tcp_if_include=10.77.0.0/24
export PRTE_MCA_oob_tcp_if_include=10.77.0.0/24
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
both() { timeout 600 mpirun -n 2 -H 10.77.0.1,10.77.0.2 "$@"; }

# ---- measuring ----

rm -rf shards
mkdir shards
"$make_test_shards" shards 4 64 32
# A rank computes long for few weights, in a few buckets.
sed -e 's/channels: 32$/channels: 64/; s/channel_mult: .*/channel_mult: [1, 2, 2]/; s/attention_levels: .*/attention_levels: [4]/' \
    -e 's/global_batch: .*/global_batch: 128/; s/resolution: .*/resolution: 32/; s/bucket_bytes: .*/bucket_bytes: 3Mi/' \
    -e 's/steps: 60/steps: 1000/' -e '/^checkpoint:/,/^preview:/s/every: 10/every: 0/' tiny.yaml >slow.yaml
[ -n "$long" ] || sed -i -e 's/global_batch: .*/global_batch: 8/; s/resolution: .*/resolution: 16/' slow.yaml
batch=$(sed -n 's/.*global_batch: //p' slow.yaml)

field() { # field KEY FILE: a number of a JSON file
    sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" "$2" | head -1
}
calculate() { awk "BEGIN { printf \"%.6g\", ($1) }"; }
median() { sort -g | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'; }

bench_step() { # bench_step NAME: both ranks at once, as they compute in training
    # shellcheck disable=SC2016
    both bash -c '"$0" bench step "$1" train.global_batch="$2" --frozen --steps 3 --warmup 1 --json \
        >"$3.$OMPI_COMM_WORLD_RANK.json"' "$vasily" "$work/slow.yaml" $((batch / 2)) "$work/$1" 2>bench.log ||
        fail "bench step"
    calibration+=(--calibration "$1.0.json" --calibration "$1.1.json")
}
train() { # train ROUND OVERLAP
    expect 0 train.log both "$vasily" train "$work/slow.yaml" run.dir="$work/run-$1-$2" parallel.overlap="$2" \
        parallel.shard="$shard" --stop-after "$steps"
}
of_runs() { # of_runs KEY OVERLAP: the median over all rounds without their first two steps
    for ((r = 0; r < rounds; r++)); do metric "run-$r-$2" "$1" | tail -n +3; done | median
}
predict() { # predict OVERLAP: what is exposed; predicted-OVERLAP.json has more
    "$vasily" plan slow.yaml parallel.overlap="$1" parallel.shard="$shard" --ranks 2 "${calibration[@]}" --json \
        >"predicted-$1.json" 2>plan.log || fail "plan: $(tail -1 plan.log)"
    # the last row is that of 2 ranks
    sed 's/.*"rows"//; s/.*"exposed_seconds": *\([-0-9.e+]*\).*/\1/' "predicted-$1.json"
}

seconds_of() { sed 's/.*"rows"//; s/.*"step_seconds": *\([-0-9.e+]*\).*/\1/' "predicted-$1.json"; }

calibration=()
bench_step first
seconds=$(field step_seconds first.0.json) bytes=$((4 * $(field parameters first.0.json)))
rate=$(calculate "8 * $bytes / (2 / 3 * $seconds)")
limit "$(printf %.0f "$rate")"
bench_comm() { # bench_comm NAME
    both "$vasily" bench comm --sizes 1Mi,4Mi,16Mi --seconds $measure --json >"$1.json" 2>bench.log || fail "bench comm"
    contains "$1.json" '"local_ranks": 1'
    calibration+=(--calibration "$1.json")
}
bench_comm comm
printf 'link: %.1f Mbit/s each way; a step alone %.3f s, %.1f MB of gradients, one machine computes at %.0f%% beside\n' \
    "$(calculate "$rate / 1e6")" "$seconds" "$(calculate "$bytes / 1e6")" "$(calculate "100 * $(field compute_rate comm.json)")"

for shard in none all; do
    rm -rf run-*
    # A machine is faster in one minute than in the next, so what is predicted from is measured in between.
    if [ -n "$long" ] && [ $shard = none ]; then calibration=(); fi
    for ((r = 0; r < rounds; r++)); do
        train $r true
        if [ -n "$long" ] && [ $shard = none ]; then bench_step "round-$r"; fi
        train $r false
        if [ -n "$long" ] && [ $shard = none ]; then bench_comm "comm-$r"; fi
    done
    [ "$(metric run-0-true loss)" = "$(metric run-0-false loss)" ] || fail "overlap changes losses (shard: $shard)"
    on=$(of_runs comm_wait_seconds true) off=$(of_runs comm_wait_seconds false)
    predicted_on=$(predict true) predicted_off=$(predict false)
    printf 'shard: %-4s exposed with overlap %.3f s (predicted %.3f, %+.0f%%), without %.3f s (predicted %.3f, %+.0f%%); %.2f of it\n' \
        $shard "$on" "$predicted_on" "$(calculate "100 * ($predicted_on / $on - 1)")" "$off" "$predicted_off" \
        "$(calculate "100 * ($predicted_off / $off - 1)")" "$(calculate "$on / $off")"
    printf '  steps of %.3f s with overlap (predicted %.3f), %.3f s without (predicted %.3f)\n' \
        "$(of_runs step_seconds true)" "$(seconds_of true)" "$(of_runs step_seconds false)" "$(seconds_of false)"
    [ -n "$long" ] || continue
    [ "$(calculate "$on <= 0.5 * $off")" = 1 ] || fail "overlap leaves $on of $off s exposed (shard: $shard)"
    # With a divided optimizer a rank also waits for the other's update, which the model takes to be equally long.
    [ $shard = none ] || continue
    for pair in "$predicted_on/$on" "$predicted_off/$off"; do
        [ "$(calculate "$pair >= 0.8 && $pair <= 1.2")" = 1 ] || fail "predicted / measured: $pair (shard: $shard)"
    done
done
