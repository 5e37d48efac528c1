#!/bin/bash
# What a run's folder of checkpoints goes through besides saving: going back twice, copies that follow links, commands
# beside a run that removes its old ones, checkpoints without optimizer state, folders that are somebody else's.
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/common.sh"
only=${VASILY_TEST_ONLY:-} # one section by its name
section() { [ -z "$only" ] || [ "$only" = "$1" ]; }
sed -i 's/every: 10/every: 2/; s/keep: 3/keep: 20/' tiny.yaml

expect 0 run.log "$vasily" train tiny.yaml --stop-after 6
c=run/checkpoints
hash_of() { sha256sum < "$1/weights.h5"; }
steps() { find "$1" -mindepth 1 -maxdepth 1 -name 'step-*' -printf '%f\n' | sort | xargs; }

# ---- going back, again and again: every branch stays ----
if section back; then
    cp -a run back
    b=back/checkpoints
    was=$(hash_of $b/step-0000006)
    for clip in 0.1 0.2 0.3; do
        expect 0 back.log "$vasily" train tiny.yaml run.dir=back --resume $b/step-0000004 optim.clip_norm=$clip --stop-after 6
        contains back.log "step-0000006.set-aside"
        last=$(hash_of $b/step-0000006)
        [ "$last" != "$was" ] || fail "the branch with optim.clip_norm=$clip has the bits of another"
    done
    [ "$(steps $b)" = "step-0000002 step-0000004 step-0000006 step-0000006.set-aside step-0000006.set-aside-2 step-0000006.set-aside-3" ] ||
        fail "not every branch is kept: $(steps $b)"
    [ "$(hash_of $b/step-0000006.set-aside)" = "$was" ] || fail "the first branch is no longer what was set aside first"
    expect 0 list.log "$vasily" checkpoint list back
    for name in step-0000006.set-aside step-0000006.set-aside-2 step-0000006.set-aside-3; do
        grep -q "one file an array; $name\$" list.log || fail "$name is not listed"
    done
    expect 0 verify.log "$vasily" checkpoint verify back $b/step-0000006.set-aside-2
    [ "$(grep -c ': good; step' verify.log)" = 4 ] || fail "not four good ones"
    expect 0 prune.log "$vasily" checkpoint prune back --keep 1
    contains prune.log "set aside, and kept: 3; --set-aside removes them"
    [ -d $b/step-0000006.set-aside-3 ] || fail "prune removes what was set aside without being asked to"
    expect 0 only.log "$vasily" train tiny.yaml run.dir=back --resume $b/step-0000006.set-aside-2 --stop-after 7
    [ "$(metric back step | xargs)" = "1 2 3 4 5 6 7" ] || fail "a run does not go on from what was set aside"
    expect 0 latest.log "$vasily" train tiny.yaml run.dir=back --resume $b/step-0000006 --stop-after 6
    [ "$(readlink $b/latest)" = step-0000006 ] || fail "latest names what was set aside"
    rm -r $b/step-0000007.set-aside
    mkdir $b/step-0000006.set-aside-notes # not of our naming
    expect 0 dry.log "$vasily" checkpoint prune back --keep 1 --set-aside --dry-run
    [ "$(grep -c 'would be removed' dry.log)" = 3 ] || fail "three that were set aside would be removed"
    expect 0 prune.log "$vasily" checkpoint prune back --keep 1 --set-aside
    [ "$(steps $b)" = "step-0000006 step-0000006.set-aside-notes" ] || fail "prune --set-aside leaves $(steps $b)"
fi

# ---- a run that goes on from what was set aside stays on that branch, whatever ends it before its next save ----
if section branch; then
    cp -a run branch
    b=branch/checkpoints
    first=$(hash_of $b/step-0000006)
    expect 0 other.log "$vasily" train tiny.yaml run.dir=branch --resume $b/step-0000004 optim.clip_norm=0.1 --stop-after 6
    other=$(hash_of $b/step-0000006)
    # --stop-after 6: it starts, and ends before it saves.
    expect 0 branch.log "$vasily" train tiny.yaml run.dir=branch --resume $b/step-0000006.set-aside --stop-after 6
    contains branch.log "step-0000006 is of another branch, or damaged: renamed to $b/step-0000006.set-aside-2"
    contains branch.log "is called branch/checkpoints/step-0000006 from now on"
    [ "$(hash_of $b/step-0000006)" = "$first" ] || fail "step 6 is not of the branch that the run went on from"
    [ "$(hash_of $b/step-0000006.set-aside-2)" = "$other" ] || fail "the other branch is lost"
    [ "$(readlink $b/latest)" = step-0000006 ] || fail "latest is $(readlink $b/latest)"
    [ "$(steps $b)" = "step-0000002 step-0000004 step-0000006 step-0000006.set-aside-2" ] || fail "branch has $(steps $b)"
    expect 0 auto.log "$vasily" train tiny.yaml run.dir=branch --resume auto --stop-after 8
    expect 0 straight.log "$vasily" train tiny.yaml run.dir=straight --stop-after 8
    [ "$(hashes $b/step-0000008)" = "$(hashes straight/checkpoints/step-0000008)" ] || fail "the run goes on from another branch"

    # Of another folder: the run's own of that step goes out of the way, unless it is the same.
    cp -a run elsewhere
    e=elsewhere/checkpoints
    cp -a $e/step-0000006 copy
    expect 0 same.log "$vasily" train tiny.yaml run.dir=elsewhere --resume copy --stop-after 6
    [ "$(steps $e)" = "step-0000002 step-0000004 step-0000006" ] || fail "a copy of it sets step 6 aside: $(steps $e)"
    expect 0 else.log "$vasily" train tiny.yaml run.dir=elsewhere --resume $b/step-0000006.set-aside-2 --stop-after 6
    [ "$(steps $e)" = "step-0000002 step-0000004 step-0000006.set-aside" ] || fail "elsewhere has $(steps $e)"
    [ -d $b/step-0000006.set-aside-2 ] || fail "another run's checkpoint is renamed"
fi

# ---- where all were set aside, a run does not begin anew; where there never was one, it does ----
if section nothing; then
    cp -a run nothing
    a=nothing/checkpoints
    rm -r $a/step-000000[24]
    mv $a/step-0000006 $a/step-0000006.set-aside
    cp nothing/metrics.jsonl metrics.was
    expect 3 alone.log "$vasily" train tiny.yaml run.dir=nothing --resume auto --stop-after 8
    contains alone.log "has no checkpoint but what was set aside; set aside, and to be named by their path: 1, the last of them step-0000006.set-aside"
    cmp metrics.was nothing/metrics.jsonl || fail "a run that does not begin has lost its metrics"
    expect 0 alone.log "$vasily" train tiny.yaml run.dir=nothing --resume $a/step-0000006.set-aside --stop-after 6
    [ "$(steps $a)" = step-0000006 ] || fail "nothing has $(steps $a)"
    # A `latest` with nothing in it: a start that is killed before its first save leaves nothing that is in the way.
    mkdir -p empty/checkpoints/latest
    "$vasily" train tiny.yaml run.dir=empty --resume auto train.steps=1000000 checkpoint.every=0 > empty.log 2>&1 &
    pid=$!
    until [ -e empty/checkpoints/latest.set-aside ] || ! kill -0 $pid 2> unread; do sleep 0.05; done
    kill -9 $pid 2> unread
    wait $pid 2> unread || true
    expect 0 empty.log "$vasily" train tiny.yaml run.dir=empty --resume auto --stop-after 2
    contains empty.log "has no checkpoint yet: starting from the beginning"
    [ "$(find empty/checkpoints -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | xargs)" = "latest latest.set-aside step-0000002" ] ||
        fail "empty has $(ls empty/checkpoints)"
fi

# ---- convert: nobody's folder is emptied for its unfinished files ----
if section convert; then
    mkdir -p out/mine.tmp
    echo precious > out/mine.tmp/file
    expect 0 convert.log "$vasily" checkpoint convert run out/mine
    expect 0 convert.log "$vasily" checkpoint convert run out/deep/mine/
    [ "$(cat out/mine.tmp/file)" = precious ] || fail "convert removes a folder that is not its own"
    [ "$(ls out out/deep)" = "$(printf 'out:\ndeep\nmine\nmine.tmp\n\nout/deep:\nmine')" ] || fail "convert leaves $(ls out out/deep)"
fi

# ---- commands beside a run that removes old ones ----
# The first manifest is a pipe: who reads it waits until the other end is opened here, and has listed the steps by then.
reader() { # reader LOG ARGUMENT...: a command that never opens the pipe, or twice, fails the test instead of stopping it
    local log=$1 code=0
    shift
    timeout 100 "$vasily" checkpoint "$@" > "$log" 2>&1 || code=$?
    timeout 1 cat beside/checkpoints/step-0000002/manifest.json > unread 2>&1 || true
    return $code
}
beside() { # beside COMMAND LOG STEP...: the steps go while the command looks at the first
    local command=$1 log=$2 pid code=0
    shift 2
    rm -rf beside
    cp -a run beside
    rm beside/checkpoints/step-0000002/manifest.json
    mkfifo beside/checkpoints/step-0000002/manifest.json
    reader "$log" "$command" beside > unread 2>&1 &
    pid=$!
    exec 9> beside/checkpoints/step-0000002/manifest.json
    for step in "$@"; do rm -rf "beside/checkpoints/step-000000$step"; done
    exec 9>&-
    wait $pid || code=$?
    echo $code
}
if section beside; then
    [ "$(beside verify verify.log 2 4)" = 0 ] || fail "verify takes what is removed meanwhile for damaged"
    [ "$(grep -c 'removed meanwhile' verify.log)" = 2 ] || fail "two were removed meanwhile"
    contains verify.log "step-0000006: good"
    [ "$(beside verify verify.log 4)" = 3 ] || fail "one that is there without its manifest is damaged"
    contains verify.log "step-0000002: not good"
    [ "$(beside verify verify.log 2 4 6)" = 3 ] || fail "none was left to be verified"
    contains verify.log "try again"
    [ "$(beside list list.log 2 4)" = 0 ] || fail "list fails where a checkpoint is removed meanwhile"
    [ "$(grep -c 'removed meanwhile' list.log)" = 2 ] || fail "two of the list were removed meanwhile"
    ! grep -q "not readable" list.log || fail "list takes what is removed meanwhile for damaged"

    # prune, when the newest of its list is gone before it was verified: it looks again.
    rm -rf beside
    cp -a run beside
    mv beside/checkpoints/step-0000002/manifest.json manifest.json
    mkfifo beside/checkpoints/step-0000002/manifest.json
    reader prune.log prune beside --keep 1 &
    pid=$!
    exec 9> beside/checkpoints/step-0000002/manifest.json
    rm -r beside/checkpoints/step-0000006
    mv manifest.json beside/checkpoints/step-0000002/manifest.json
    exec 9>&-
    wait $pid || fail "prune fails where the newest goes meanwhile"
    [ "$(steps beside/checkpoints)" = step-0000004 ] || fail "prune leaves $(steps beside/checkpoints)"

    # Removed means gone at once, even where removing its files fails: here, in a folder that is too deep.
    cp -a run removed
    (cd removed/checkpoints/step-0000002 && for _ in $(seq 100); do mkdir d && cd d; done)
    expect 3 removed.log "$vasily" checkpoint prune removed --keep 2
    [ "$(steps removed/checkpoints)" = "step-0000002.removed.tmp step-0000004 step-0000006" ] ||
        fail "a checkpoint that could not be removed is left as $(steps removed/checkpoints)"
    expect 0 verify.log "$vasily" checkpoint verify removed
    # What a killed removal has left is shown, and goes with the next prune.
    rm -r removed/checkpoints/step-0000002.removed.tmp
    mkdir -p removed/checkpoints/step-0000002.removed.tmp/rest removed/checkpoints/step-0000008.tmp/saved
    mkdir removed/checkpoints/step-mine.removed.tmp
    expect 0 list.log "$vasily" checkpoint list removed
    contains list.log "step-0000002.removed.tmp: is being removed"
    expect 0 dry.log "$vasily" checkpoint prune removed --keep 2 --dry-run
    contains dry.log "would be removed: removed/checkpoints/step-0000002.removed.tmp"
    expect 0 prune.log "$vasily" checkpoint prune removed --keep 2
    [ "$(steps removed/checkpoints)" = "step-0000004 step-0000006 step-0000008.tmp step-mine.removed.tmp" ] ||
        fail "prune leaves $(steps removed/checkpoints)"
fi

# ---- a copy that has followed links: `latest` is a folder ----
if section copied; then
    cp -rL run copied
    expect 0 list.log "$vasily" checkpoint list copied
    contains list.log "latest: a folder"
    expect 0 verify.log "$vasily" checkpoint verify copied
    contains verify.log "latest is a folder"
    expect 0 copied.log "$vasily" train tiny.yaml run.dir=copied --resume auto --stop-after 8
    contains copied.log "latest.set-aside"
    [ "$(readlink copied/checkpoints/latest)" = step-0000008 ] || fail "latest is no link to step 8"
    [ "$(hash_of copied/checkpoints/latest.set-aside)" = "$(hash_of $c/step-0000006)" ] || fail "what was latest is lost"
    # It may be all that was copied.
    cp -rL run alone
    rm -r alone/checkpoints/step-*
    expect 0 list.log "$vasily" checkpoint list alone
    contains list.log "latest: a folder"
    expect 0 verify.log "$vasily" checkpoint verify alone
    [ "$(grep -c ': good; step 6' verify.log)" = 1 ] || fail "latest is not verified where it is alone"
    expect 0 alone.log "$vasily" train tiny.yaml run.dir=alone --resume auto --stop-after 8
    contains alone.log "6 steps done"
    [ "$(steps alone/checkpoints)" = "step-0000006 step-0000008" ] || fail "alone has $(ls alone/checkpoints)"
    [ "$(readlink alone/checkpoints/latest)" = step-0000008 ] || fail "latest is no link to step 8"
    [ "$(hashes alone/checkpoints/step-0000008)" = "$(hashes copied/checkpoints/step-0000008)" ] ||
        fail "the copy goes on with other bits"
fi

# ---- a `latest` that is a folder, and the only good one of its step ----
if section only; then
    cp -rL run only
    o=only/checkpoints
    for step in 2 4 6; do echo '{' > $o/step-000000$step/state.json; done
    for start in 1 2; do # --stop-after 6: it ends before it saves
        expect 0 only.log "$vasily" train tiny.yaml run.dir=only --resume auto --stop-after 6
        contains only.log "resumed from only/checkpoints/$([ $start = 1 ] && echo latest || echo step-0000006): 6 steps"
        [ "$(hash_of $o/step-0000006)" = "$(hash_of $c/step-0000006)" ] || fail "step 6 is not what latest was"
        [ "$(readlink $o/latest)" = step-0000006 ] || fail "latest is no link to step 6"
        [ "$(steps $o)" = "step-0000002 step-0000004 step-0000006 step-0000006.set-aside" ] || fail "only has $(steps $o)"
    done
    echo '{' > $o/step-0000006/state.json
    expect 3 none.log "$vasily" train tiny.yaml run.dir=only --resume auto
    contains none.log "none of its 3 checkpoints is usable"
    contains none.log "step-0000006.set-aside"

    # Newer than all others: it has its turn first.
    cp -rL run newer
    rm -r newer/checkpoints/step-0000006
    expect 0 export.log "$vasily" export newer --out newer.safetensors
    expect 0 export.log "$vasily" export run --out run.safetensors
    cmp newer.safetensors run.safetensors || fail "export does not take latest"
    expect 0 newer.log "$vasily" train tiny.yaml run.dir=newer --resume auto --stop-after 6
    contains newer.log "latest: 6 steps done"
    [ "$(steps newer/checkpoints)" = "step-0000002 step-0000004 step-0000006" ] || fail "newer has $(ls newer/checkpoints)"
    # Between others: only where the newer ones will not do.
    cp -rL run between
    mv between/checkpoints/latest between/latest
    cp -r between/checkpoints/step-0000004 between/checkpoints/latest
    rm -r between/checkpoints/step-0000004
    echo '{' > between/checkpoints/step-0000006/state.json
    expect 0 between.log "$vasily" train tiny.yaml run.dir=between --resume auto --stop-after 4
    contains between.log "latest: 4 steps done"
fi

# ---- prune: the cause comes first ----
if section cause; then
    cp -a run cause
    echo '{' > cause/checkpoints/step-0000006/state.json
    expect 3 cause.log "$vasily" checkpoint prune cause --keep 1
    contains cause.log "nothing is removed, for the newest checkpoint is not good; remove that one first"
    ! grep -q "give --keep" cause.log || fail "prune names a remedy that does not help"
fi

# ---- verify: a path without a checkpoint does not hide the others ----
if section paths; then
    expect 3 paths.log "$vasily" checkpoint verify $c/step-0000002 nope $c/step-0000004
    contains paths.log "nope"
    contains paths.log "step-0000004: good"
fi

# ---- without optimizer state ----
if section light; then
    cp -a run light
    l=light/checkpoints
    expect 2 refused.log "$vasily" checkpoint convert light $l/step-0000007 --without-optimizer
    contains refused.log "name another folder"
    expect 2 refused.log bash -c "cd $l && '$vasily' checkpoint convert .. step-0000007/ --without-optimizer"
    [ "$(steps $l)" = "step-0000002 step-0000004 step-0000006" ] || fail "a refusal leaves $(steps $l)"
    expect 0 step.log "$vasily" checkpoint convert light step-0000007 --without-optimizer # not in a run
    expect 2 again.log "$vasily" checkpoint convert step-0000007 $l/step-0000007
    mv step-0000007 $l
    expect 0 list.log "$vasily" checkpoint list light
    [ "$(grep -c 'without optimizer state' list.log)" = 1 ] || fail "list does not tell which cannot be resumed"
    expect 0 prune.log "$vasily" checkpoint prune light --keep 1
    contains prune.log "kept: 6 7 (without optimizer state: not counted)"
    [ "$(steps $l)" = "step-0000006 step-0000007" ] || fail "prune leaves $(steps $l)"
    expect 0 resume.log "$vasily" train tiny.yaml run.dir=light --resume auto --stop-after 8
    contains resume.log "step-0000007 has no optimizer state, so it cannot be resumed"
    contains resume.log "6 steps done"
    [ "$(steps $l)" = "step-0000006 step-0000007.set-aside step-0000008" ] || fail "the run that went on leaves $(steps $l)"
    # Neither does it count while a run goes on.
    mv $l/step-0000007.set-aside $l/step-0000007
    expect 0 resume.log "$vasily" train tiny.yaml run.dir=light --resume auto checkpoint.keep=2 --stop-after 10
    [ "$(steps $l)" = "step-0000007 step-0000008 step-0000010" ] || fail "the run keeps $(steps $l)"
    # Lost files are damage, not a checkpoint that was written without them.
    cp -a run lost
    rm lost/checkpoints/step-0000006/adam_[mv].h5
    expect 0 list.log "$vasily" checkpoint list lost
    ! grep -q 'without optimizer state' list.log || fail "list takes lost files for a checkpoint without optimizer state"
    expect 3 prune.log "$vasily" checkpoint prune lost --keep 1
    contains prune.log "the newest checkpoint is not good"
    expect 0 resume.log "$vasily" train tiny.yaml run.dir=lost --resume auto --stop-after 4
    contains resume.log "step-0000006 is not usable"
    contains resume.log "adam_m.h5"
fi
