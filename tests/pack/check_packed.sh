#!/bin/bash
# check_packed.sh DIR: what a packed folder (launch/pack) must do on any machine, run in a folder that holds the shards,
# tokenizer.model and tiny.yaml of tests/train/common.sh. Started with an empty environment by the tests beside it.
set -euo pipefail
packed=$(cd "$1" && pwd)
vasily=$packed/bin/vasily
export CUDA_VISIBLE_DEVICES='' # whatever this machine has: the checks are about one without a GPU

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Every library is a packed one, or glibc's, or C++'s, or one of CUDA's.
"$packed/bin/with-libraries" ldd "$packed/libexec/vasily" >libraries
! grep -F 'not found' libraries || fail "libraries are missing"
while read -r name _ path _; do
    case $name in
    linux-vdso* | */ld-linux* | libc.so* | libm.so* | libresolv.so* | libstdc++.so* | libgcc_s.so*) continue ;;
    esac
    case $path in "$packed"/lib/*) ;; *) fail "$name comes from $path" ;; esac
done <libraries

"$vasily" --version >version
grep -q '^vasily [0-9]' version || fail "no version: $(cat version)"
"$vasily" plan "$packed/configs/demo.yaml" >plan.txt 2>plan.log || fail "plan: $(cat plan.log)"
grep -q '^parameters' plan.txt || fail "no parameters in the plan: $(cat plan.txt)"

# Three steps on two ranks, and the same alone; `auto` says in one line why it is no GPU.
for ranks in 1 2; do
    launch=()
    if [ "$ranks" != 1 ]; then launch=("$packed/launch/mpirun" "$ranks"); fi
    "${launch[@]}" "$vasily" train tiny.yaml run.dir=packed$ranks train.steps=3 >train$ranks.log 2>&1 ||
        fail "training on $ranks ranks: $(tail -n 5 train$ranks.log)"
    [ "$(wc -l <packed$ranks/metrics.jsonl)" = 3 ] || fail "$ranks ranks: not 3 lines of metrics"
    [ "$(grep -c 'device: cpu.*device.name is auto' train$ranks.log)" = 1 ] ||
        fail "$ranks ranks: no line says why the processor is used: $(grep device: train$ranks.log)"
done

# `cuda` is refused in one line.
code=0
"$vasily" train tiny.yaml run.dir=cuda device.name=cuda >cuda.log 2>&1 || code=$?
[ $code != 0 ] || fail "device.name=cuda is not refused"
errors=$(grep error cuda.log)
[[ $errors != *$'\n'* && ${errors,,} = *cuda* ]] || fail "device.name=cuda: no single line says why not: $(cat cuda.log)"
echo "$errors"
grep -h 'device: cpu' train1.log
echo "the packed folder does what it must"
