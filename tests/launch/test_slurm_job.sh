#!/bin/bash
# What launch/slurm/train.sbatch and precompute.sbatch decide, without a SLURM: srun and scontrol are scripts of this
# test, which do as they are told. test_slurm_job.sh VASILY MAKE_TEST_SHARDS
# shellcheck source=tests/train/common.sh disable=SC2154
source "$(dirname "$0")/../train/common.sh"
home=$(cd "$here/../.." && pwd)
slurm=$home/launch/slurm
mkdir bin
PATH=$work/bin:$PATH

# srun: notes its command line, makes a checkpoint of step $STEP if there is one, ends with $CODE; or waits to be told.
cat >bin/srun <<'SCRIPT'
#!/bin/bash
printf '%q ' "$@" >srun.args
if [ -n "${STEP-}" ]; then
    mkdir -p run/checkpoints
    ln -sfn "step-$STEP" run/checkpoints/latest
fi
if [ -n "${WAITS-}" ]; then
    trap 'echo told >srun.told; exit 75' USR1
    touch srun.waits
    for ((i = 0; i < 600; i++)); do sleep 0.1; done # a minute
fi
exit "${CODE:-0}"
SCRIPT
# scontrol: a site whose RequeueExit is $REQUEUE_EXIT, or one that is $SILENT; requeue ends the batch script, as SLURM does.
# Where the batch script lies takes a while where it $WAITS.
cat >bin/scontrol <<'SCRIPT'
#!/bin/bash
[ -z "${SILENT-}" ] || exit 1
case $1,$2 in
show,config) printf '%s = %s\n' RequeueExit "${REQUEUE_EXIT-(null)}" RequeueExitHold "${REQUEUE_HOLD-(null)}" ;;
show,job)
    if [ -n "${WAITS-}" ]; then
        touch scontrol.waits
        for ((i = 0; i < 4800; i++)); do # four minutes: the test may have ended
            if [ -e scontrol.goes ]; then break; fi
            sleep 0.05
        done
    fi
    [ -z "${COMMAND-}" ] || echo "JobId=7 Command=$COMMAND WorkDir=/"
    ;;
requeue,*)
    echo "$2" >requeued
    [ -z "${REQUEUE_FAILS-}" ] || exit 1
    kill -TERM $PPID
    ;;
esac
exit 0
SCRIPT
chmod +x bin/*

# job CODE-EXPECTED NAME=VALUE... -- ARGUMENT...: one start of job 7 on two machines of two ranks.
job() {
    local want=$1 settings=()
    shift
    while [ "$1" != -- ]; do
        settings+=("$1")
        shift
    done
    shift
    rm -f requeued srun.args
    expect "$want" job.log env SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=4 SLURM_NTASKS_PER_NODE=2 \
        SLURM_CPUS_PER_TASK=3 "${settings[@]}" "${script:-$slurm/train.sbatch}" --program "$vasily" "$@"
}
queued() { [ "$(cat requeued 2>/dev/null)" = 7 ] || fail "the job was not queued again: $*"; }
not_queued() {
    [ ! -e requeued ] || fail "the job was queued again: $*"
    contains job.log "not queued again"
}
fresh() { rm -rf run; }

# Done.
job 0 -- tiny.yaml
contains job.log "launch/slurm: done"
contains srun.args "--mpi=pmix --kill-on-bad-exit=1 --ntasks=4 --distribution=block --cpu-bind=cores --cpus-per-task=3"
contains srun.args "$vasily train tiny.yaml --resume auto"
[ ! -e requeued ] || fail "a job that is done was queued again"

# Ends that would come again.
for code in 2 3 4 5 70 127 130; do
    fresh
    job $code CODE=$code STEP=0000010 -- tiny.yaml
    not_queued "code $code"
    contains job.log "the ranks ended with $code"
done
# Those that need not: a signal, a lost rank, communication, a launcher's own trouble.
for code in 75 76 6 1 137 143 213; do
    fresh
    job 75 CODE=$code STEP=0000010 -- tiny.yaml
    queued "code $code"
    contains job.log "the ranks ended with $code, the run has a checkpoint of step-0000010; scontrol requeue 7"
done
# By exit code, where the site has it so: alone, in a list, in a range.
for exits in 75 '3,75' '70-80' '1,74-76,90'; do
    fresh
    job 75 CODE=76 STEP=0000010 "REQUEUE_EXIT=$exits" -- tiny.yaml
    [ ! -e requeued ] || fail "scontrol requeue beside RequeueExit=$exits"
    contains job.log "the job ends with 75 to be queued again"
done
for exits in 74 '1-74,76' 175; do
    fresh
    job 75 CODE=76 STEP=0000010 "REQUEUE_EXIT=$exits" -- tiny.yaml
    queued "RequeueExit=$exits"
done
fresh
job 75 CODE=76 STEP=0000010 -- --requeue exit tiny.yaml
[ ! -e requeued ] || fail "--requeue exit calls scontrol"
job 75 CODE=76 STEP=0000020 REQUEUE_EXIT=75 -- tiny.yaml --requeue scontrol
queued "--requeue scontrol"
job 76 CODE=76 STEP=0000030 -- --requeue no tiny.yaml
not_queued "--requeue no"
job 76 CODE=76 STEP=0000040 REQUEUE_FAILS=1 -- tiny.yaml
contains job.log "it cannot be queued again: submit it anew"
job 75 CODE=76 STEP=0000050 SILENT=1 -- tiny.yaml
contains job.log "the cluster does not answer; the job ends with 75"

# Given up, a job ends with a code that does not queue it again: the ranks' where it is none, and never with 75.
given_up() { # CODE-EXPECTED CODE NAME=VALUE... -- ARGUMENT...
    local want=$1 code=$2
    shift 2
    fresh
    job "$want" CODE="$code" "$@"
    not_queued "given up: $code"
    if [ "$want" != "$code" ]; then contains job.log "the job ends with $want instead of $code"; fi
}
given_up 1 75 -- tiny.yaml --tries 1
given_up 1 75 -- tiny.yaml --requeue no
given_up 1 75 REQUEUE_EXIT=75 -- tiny.yaml --tries 1
given_up 1 75 SILENT=1 -- tiny.yaml --tries 1
given_up 1 76 REQUEUE_EXIT=70-80 -- tiny.yaml --tries 1
given_up 1 76 REQUEUE_EXIT=70-80 -- tiny.yaml --requeue no
given_up 1 70 REQUEUE_EXIT=70-80 -- tiny.yaml
given_up 1 3 REQUEUE_HOLD=2-5 -- tiny.yaml
given_up 1 5 SILENT=1 -- tiny.yaml
given_up 102 76 REQUEUE_EXIT=1,70-101 -- tiny.yaml --tries 1
given_up 76 76 REQUEUE_EXIT=75 -- tiny.yaml --tries 1
job 100 REQUEUE_EXIT=1-3 -- tiny.yaml optim.max_lr=fast
contains job.log "the job ends with 100 instead of 2"

# Three starts in a row without a new checkpoint are enough; one with a new one counts anew, and so does another job.
fresh
job 75 CODE=76 STEP=0000010 -- tiny.yaml
for start in 1 2; do
    job 75 CODE=76 -- tiny.yaml
    queued "start $start without a new checkpoint"
done
job 76 CODE=76 -- tiny.yaml
not_queued "three starts without a new checkpoint"
contains job.log "3 starts in a row ended without anything new, the last with 76; the run has a checkpoint of step-0000010"
job 75 CODE=76 SLURM_JOB_ID=7 STEP=0000020 -- tiny.yaml
job 75 CODE=76 -- tiny.yaml
queued "after a new checkpoint"
job 76 CODE=76 -- tiny.yaml --tries 2
contains job.log "2 starts in a row"
echo "6 9 has a checkpoint of step-0000020" >run/slurm-starts
job 75 CODE=76 -- tiny.yaml
queued "another job's starts do not count"

# USR1 is passed on, and asks for the next start; TERM is, too, but what follows is SLURM's to say.
signalled() { # SIGNAL CODE-EXPECTED
    local code=0 tries=0
    rm -f srun.told srun.waits requeued
    SLURM_JOB_ID=8 SLURM_NTASKS=4 SLURM_JOB_NUM_NODES=2 SLURM_NTASKS_PER_NODE=2 WAITS=1 \
        "$slurm/train.sbatch" --program "$vasily" tiny.yaml >signal.log 2>&1 &
    local script=$!
    until [ -e srun.waits ]; do
        kill -0 $script || fail "the job ended before it was told to"
        [ $((tries += 1)) -lt 1200 ] || fail "srun was not started"
        sleep 0.05
    done
    kill "-$1" $script
    wait $script || code=$?
    [ "$code" = "$2" ] || fail "$1: exit code $code instead of $2"
    [ -e srun.told ] || fail "$1 is not passed on"
}
signalled USR1 75
contains signal.log "time is nearly up: the ranks are told to save and end"
[ -e requeued ] || fail "USR1: not queued again"
signalled TERM 143
contains signal.log "SLURM ends the job; the ranks ended with 75"
[ ! -e requeued ] || fail "TERM: queued again, though SLURM ends the job"

# A signal that comes before the ranks are started, as early as it may: nothing was begun, and the job is queued again.
cp "$slurm/train.sbatch" early_script
early() { # CODE-EXPECTED ARGUMENT...
    local code=0 tries=0 want=$1
    shift
    rm -rf run scontrol.waits scontrol.goes srun.args requeued
    SLURM_JOB_ID=9 SLURM_NTASKS=4 SLURM_JOB_NUM_NODES=2 SLURM_NTASKS_PER_NODE=2 WAITS=1 \
        COMMAND="$slurm/train.sbatch" bash ./early_script --program "$vasily" tiny.yaml "$@" >early.log 2>&1 &
    local script=$!
    until [ -e scontrol.waits ]; do
        kill -0 $script || fail "the job ended before it was told to"
        [ $((tries += 1)) -lt 1200 ] || fail "nobody asks where the batch script lies"
        sleep 0.05
    done
    kill -USR1 $script
    touch scontrol.goes
    wait $script || code=$?
    [ "$code" = "$want" ] || fail "USR1 before the start: exit code $code instead of $want"
    [ ! -e srun.args ] || fail "the ranks were started after the signal"
    contains early.log "time is nearly up already: the ranks are not started"
}
early 75
[ "$(cat requeued)" = 9 ] || fail "USR1 before the start: not queued again"
early 1 --tries 1 # a time limit that is always too near
contains early.log "not queued again: 1 starts in a row ended without anything new"

# An mpirun that waits for a machine after its own ranks have ended is not waited for.
cat >bin/mpirun <<'SCRIPT'
#!/bin/bash
WAITS=1 srun & # starts the daemons of other machines
echo $! >srun.pid
sleep 2 # a rank
wait
SCRIPT
chmod +x bin/mpirun
job 75 VASILY_MPIRUN_PATIENCE=2 -- tiny.yaml --launcher mpirun
contains job.log "mpirun still waits for another machine: it is killed"
contains job.log "the ranks ended with 137"
kill "$(cat srun.pid)"

# Precompute: new files are what counts; where they would be is not known without a folder.
script=$slurm/precompute.sbatch
mkdir -p frozen/shapes
job 75 CODE=76 -- tiny.yaml --out frozen
contains srun.args "$vasily precompute tiny.yaml --out frozen"
touch frozen/shapes/000000.text.h5
job 75 CODE=76 -- tiny.yaml --out frozen
job 75 CODE=76 -- tiny.yaml --out frozen
job 76 CODE=76 -- tiny.yaml --out frozen
contains job.log "3 starts in a row ended without anything new, the last with 76; the run has 1 files"
for start in 1 2 3 4; do # one file is made anew in each start
    cp frozen/shapes/000000.text.h5 frozen/shapes/000000.text.h5.tmp-1
    mv frozen/shapes/000000.text.h5.tmp-1 frozen/shapes/000000.text.h5
    job 75 CODE=76 -- tiny.yaml --out frozen
    queued "start $start, before which a file was made anew"
done
rm frozen/slurm-starts
job 75 CODE=76 -- tiny.yaml frozen.path=frozen
contains job.log "writes to frozen, which has 1 files"
# The folder is what vasily makes of the command line.
job 75 CODE=76 -- tiny.yaml --out=frozen --captions 4
contains job.log "writes to frozen, which has 1 files"
job 75 CODE=76 -- tiny.yaml --out new/v=1/fz
contains job.log "writes to new/v=1/fz, which has no files yet"
[ -e new/v=1/fz/slurm-starts ] || fail "starts are not counted in --out"
job 75 CODE=76 -- tiny.yaml 'stages=[{name: a, steps: 60, frozen: {path: "of \"a\""}}]' --stage a
contains job.log 'writes to of "a", which has no files yet'
expect 0 job.log env -u SLURM_JOB_ID "$script" --program "$vasily" --dry-run tiny.yaml --out frozen # on any number of ranks
contains job.log "16 ranks on 2 machines"
script=

# So is the folder of a run.
name='a "b" \c'
mkdir -p "$name/checkpoints"
ln -s step-0000030 "$name/checkpoints/latest"
job 75 CODE=76 -- tiny.yaml 'run.dir="a \"b\" \\c"'
contains job.log "writes to $name, which has a checkpoint of step-0000030"
[ -e "$name/slurm-starts" ] || fail "starts are not counted in run.dir"

# What is wrong is said before anything is started, with the remedy.
wrong() { # TEXT ARGUMENT...
    local text=$1
    shift
    job 2 -- "$@"
    contains job.log "$text"
    [ ! -e srun.args ] || fail "started in spite of: $text"
}
wrong "which CONFIG?" --tries 2
wrong "which CONFIG?" --stop-after 5 tiny.yaml
wrong "--tries none: a whole number" tiny.yaml --tries none
wrong "--launcher ssh: srun or mpirun" tiny.yaml --launcher ssh
wrong "--requeue maybe: auto, exit, scontrol or no" tiny.yaml --requeue maybe
wrong "--local needs a value" tiny.yaml --local
wrong "goes on from its newest checkpoint" tiny.yaml --resume auto
wrong "optim.max_lr" tiny.yaml optim.max_lr=fast
wrong "--container no.sif: no such file" tiny.yaml --container no.sif
wrong "--tries x: a whole number" tiny.yaml --launcher=mpirun --tries=x
wrong "--launcher ssh: srun or mpirun" --launcher=ssh tiny.yaml
wrong "--requeue : auto, exit, scontrol or no" tiny.yaml --requeue=
wrong "--dry-run=yes: --dry-run takes no value" tiny.yaml --dry-run=yes
wrong "vasily train: there is no option --foo" tiny.yaml --foo
wrong "vasily train: there is no option --loca" tiny.yaml --loca=/scratch
wrong "vasily train: --stop-after takes a whole number" tiny.yaml --stop-after=soon
wrong "vasily train: --stop-after needs a value" tiny.yaml --stop-after
wrong "there is no stage a" tiny.yaml --only-stage a
wrong "\"more\" is one argument too many" tiny.yaml more
contains job.log "not started: the command line or the config is wrong; see above"
wrong "not started: the program cannot be started; see above" tiny.yaml --program "$work/tiny.yaml"

# Without SLURM: what would start.
alone() { # CODE LOG ARGUMENT...
    expect "$1" "$2" env -u SLURM_JOB_ID "$slurm/train.sbatch" --program "$vasily" "${@:3}"
}
alone 2 alone.log tiny.yaml
contains alone.log "submit it: sbatch $slurm/train.sbatch"
alone 2 dry.log --dry-run tiny.yaml
contains dry.log "16 ranks on 2 machines, 12 CPUs each"
contains dry.log "train.global_batch"
contains dry.log "choose other --nodes"
alone 0 dry.log --dry-run tiny.yaml train.global_batch=16 data.lanes=16 --launcher mpirun --local /scratch/me
contains dry.log "mpirun -n 16 --map-by ppr:8:node:PE=12 --bind-to core $slurm/rank /scratch/me $vasily train tiny.yaml"
contains dry.log "--resume auto device.cache=/scratch/me/plans"
grep -q '^parameters' dry.log || fail "--dry-run shows no plan"
alone 0 dry.log --dry-run tiny.yaml train.global_batch=16 data.lanes=16 device.cache=mine --local /scratch/me
! grep -q device.cache=/scratch dry.log || fail "--local overrides the config's device.cache"
contains dry.log "device.cache=mine --resume auto run.lock_seconds=300"
alone 0 dry.log --dry-run tiny.yaml train.global_batch=16 data.lanes=16 run.lock_seconds=7
[ "$(grep -o 'run.lock_seconds=[0-9]*' dry.log | sort | uniq -c | tr -s ' ')" = " 1 run.lock_seconds=7" ] ||
    fail "the config's run.lock_seconds is overridden"
alone 0 dry.log --dry-run --launcher=mpirun --local=/scratch/me tiny.yaml --stop-after 5 -- train.global_batch=16 data.lanes=16
contains dry.log "mpirun -n 16"
contains dry.log "$slurm/rank /scratch/me $vasily train tiny.yaml --stop-after 5 train.global_batch=16"
alone 2 dry.log --dry-run tiny.yaml train.global_batch=16 data.lanes=16 --foo
contains dry.log "vasily train: there is no option --foo"
[ ! -e srun.args ] || fail "--dry-run started something"
expect 0 help.log "$slurm/train.sbatch" --help
contains help.log "--tries N"
! grep -q SBATCH help.log || fail "--help shows #SBATCH lines"

# A packed folder has its own program and its own mpirun; without any program the script says what to do.
mkdir -p packed/launch packed/bin
cp -r "$slurm" packed/launch/
expect 2 packed.log packed/launch/slurm/train.sbatch --dry-run tiny.yaml
contains packed.log "packed/build/release/vasily is not there: build it, or name --program or --container"
ln -s "$vasily" packed/bin/vasily
printf '#!/bin/sh\n' >packed/bin/mpirun
chmod +x packed/bin/mpirun
expect 0 packed.log packed/launch/slurm/train.sbatch --dry-run tiny.yaml train.global_batch=16 data.lanes=16 \
    --launcher mpirun
contains packed.log "starts $work/packed/bin/mpirun -n 16"
contains packed.log "$work/packed/bin/vasily train tiny.yaml"

# As SLURM runs it: a copy of the script elsewhere, which asks scontrol where the original lies, or is told.
cp "$slurm/train.sbatch" slurm_script
expect 2 copy.log env SLURM_JOB_ID=7 ./slurm_script --program "$vasily" tiny.yaml
contains copy.log "set VASILY_HOME to the folder of Vasily"
expect 0 copy.log env SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_JOB_NUM_NODES=2 "VASILY_HOME=$home" ./slurm_script \
    --program "$vasily" tiny.yaml
contains copy.log "launch/slurm: done"

# A rank's folder for temporary files: made, its owner's alone, and never one that is not there.
# shellcheck disable=SC2016 # the inner shell's variable
expect 0 rank.log "$slurm/rank" "$work/disk/mine" sh -c 'echo "$TMPDIR"'
[ "$(cat rank.log)" = "$work/disk/mine" ] || fail "TMPDIR is $(cat rank.log)"
[ "$(stat -c %a disk/mine)" = 700 ] || fail "others may read --local"
touch file
expect 3 rank.log "$slurm/rank" "$work/file" true
contains rank.log "--local $work/file cannot be made"
# shellcheck disable=SC2016
expect 0 rank.log env TMPDIR=/not/there "$slurm/rank" "" sh -c 'echo "<${TMPDIR-none}>"'
contains rank.log "<none>"
expect 4 rank.log "$slurm/rank" "" sh -c 'exit 4'
