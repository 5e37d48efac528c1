#!/bin/bash
# Training under a real SLURM on two machines (slurm_cluster.sh), four ranks, through a time limit's signal, a stopped
# rank, a killed rank, a killed machine, requeue and cancel: the jobs are queued again, go on, end, and their weights are
# those of runs that were never interrupted. test_slurm.sh VASILY MAKE_TEST_SHARDS
#
# VASILY_TEST_LONG=1 adds a real time limit and the death of the machine on which the batch script runs.
# shellcheck source=tests/launch/slurm_cluster.sh disable=SC2154
source "$(dirname "$0")/slurm_cluster.sh"
cluster_enter "$@"
# shellcheck source=tests/train/common.sh
source "$(dirname "$0")/../train/common.sh"
home=$(cd "$here/../.." && pwd)
cluster=$work/cluster
trap '[ $? = 0 ] || cluster_logs >&2; cluster_stop; rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive
cat >>tiny.yaml <<'YAML'
parallel:
  heartbeat_seconds: 0.2
  silent_seconds: 3
YAML
sed -i 's/^  steps: 60/  steps: 1000000/; s/^  every: 10/  every: 5/; s/total_steps: 60/total_steps: 1000000/' tiny.yaml

begun=$SECONDS
part() {
    printf '%3d s  %s\n' $((SECONDS - begun)) "$*"
}

# What jobs inherit: Open MPI as it is on a cluster, but for what containers and few cores need.
jobs_environment() {
    local name
    for name in $(compgen -v | grep -E '^(OMPI_MCA|PRTE_MCA|PMIX_MCA)'); do unset "$name"; done
    export OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_mpi_yield_when_idle=1
    export OMPI_MCA_btl_base_warn_component_unused=0
}

# submit NAME OPTION... -- ARGUMENT...: NAME.yaml is its config, NAME its run, NAME.log its output; leaves `job`.
submit() {
    local name=$1 options=() script=train.sbatch
    shift
    cp tiny.yaml "$name.yaml"
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    case $name in precompute*) script=precompute.sbatch ;; esac
    job=$(jobs_environment && sbatch --parsable --ntasks-per-node=2 --gpus-per-node=2 --cpus-per-task=1 \
        --output="$name.log" "${options[@]}" "$home/launch/slurm/$script" --program "$vasily" "$name.yaml" \
        "run.dir=$name" "$@")
}

job_is() { # STATE
    scontrol show job -o "$job" | grep -q " JobState=$1 "
}
step_of() { # RUN: of its newest checkpoint
    local latest
    latest=$(readlink "$1/checkpoints/latest" 2>/dev/null) || latest=''
    latest=${latest#step-}
    echo $((10#${latest:-0}))
}
has_step_after() { [ "$(step_of "$1")" -gt "$2" ]; }
says() { # RUN COUNT TEXT: so often, at least
    [ "$(grep -cF -- "$3" "$1.log")" -ge "$2" ]
}
# Trained on, after the step that it had.
await_progress() { # RUN STEP
    await 120 "$1: a checkpoint after step $2" has_step_after "$1" "$2"
}
ranks_on() { on "$1" pgrep -f "^$vasily train $2.yaml"; }
a_rank_on() { ranks_on "$@" | tail -n 1; }

# finish RUN: between two starts; lets the job end 5 steps after what it has, and compares it with a run of the same ranks
# and steps that nothing interrupted.
finish() {
    local name=$1 steps a b
    steps=$(($(step_of "$name") + 5))
    sed -i "s/^  steps: 1000000/  steps: $steps/" "$name.yaml"
    # SLURM starts a job again two minutes after it has ended, or three where a machine was lost.
    await 300 "$name: the end of the job" job_is COMPLETED
    contains "$name.log" "launch/slurm: done"
    cmp <(metric "$name" step) <(seq "$steps") || fail "$name: steps are missing or doubled in metrics.jsonl"
    expect 0 "whole-$name.log" mpirun -n 4 "$vasily" train tiny.yaml "run.dir=whole-$name" --stop-after "$steps"
    a=$(hashes "$name/checkpoints/latest") b=$(hashes "whole-$name/checkpoints/latest")
    [ -n "$a" ] && [ "$a" = "$b" ] || fail "$name: the weights after $steps steps are not those of a run without faults"
    part "$name: $steps steps in $(grep -c ', start [0-9]*:' "$name.log") starts, the same bits as in one"
}

cluster_start "$cluster"
part "a cluster"

# ---- who gets what ----

# In place of vasily: says which processors and GPUs a rank sees.
cat >show <<SHOW
#!/bin/bash
[ "\$1" = train ] || exec "$vasily" "\$@"
echo "rank \${OMPI_COMM_WORLD_RANK:-\$PMIX_RANK} on \$(hostname) sees GPUs \$CUDA_VISIBLE_DEVICES and processors \$(taskset -cp \$\$ |
    sed 's/.*: //'), TMPDIR \$TMPDIR, \$*"
SHOW
chmod +x show
for launcher in srun mpirun; do
    submit show-$launcher -- --launcher $launcher --program "$work/show" --local "$work/local"
    await 60 "show-$launcher" job_is COMPLETED
    for rank in 0 1 2 3; do
        grep -E "^rank $rank on n$((rank / 2 + 1)) sees GPUs 0,1 and processors [0-9]+, TMPDIR $work/local," \
            show-$launcher.log | grep -qF -- "--resume auto device.cache=$work/local/plans" ||
            fail "$launcher: rank $rank is not bound as it should be"
    done
done
part "ranks are bound, see their machine's GPUs and their own disk"

# ---- given up: not by the code that this cluster queues again ----

cat >always <<ALWAYS
#!/bin/bash
[ "\$1" = train ] || exec "$vasily" "\$@"
exit 75
ALWAYS
chmod +x always
submit given-up -- --program "$work/always" --tries 1
await 60 "the end of a job that is given up" job_is FAILED
scontrol show job -o "$job" | grep -q ' Restarts=0 .* ExitCode=1:0 ' || fail "given up: $(scontrol show job -o "$job")"
contains given-up.log "the job ends with 1 instead of 75"
part "a job that is given up stays so"

# ---- srun: the signal of a time limit, a stopped rank, a killed machine ----

submit srun -- --requeue exit
await_progress srun 0
scancel --batch --signal=USR1 "$job" # what SLURM does before the limit
await 60 "the end after USR1" says srun 1 "the ranks ended with 75"
contains srun.log "time is nearly up: the ranks are told to save and end"
contains srun.log "the job ends with 75 to be queued again"
step=$(step_of srun)
[ "$(metric srun step | tail -n 1)" = "$step" ] || fail "the last step before the limit was not saved"

await_progress srun "$step"
contains srun.log "resumed from srun/checkpoints/step-"
stopped=$(a_rank_on n2 srun)
on n2 kill -STOP "$stopped"
await 60 "the end after STOP" says srun 1 "the ranks ended with 76"
grep -qE "rank [23] on n2 has not been heard of for " srun.log || fail "nobody names the rank that was stopped"

await_progress srun "$(step_of srun)"
named=$(grep -cE "rank [23] on n2 has" srun.log) # so far: the one that was stopped
machine_kill n2
names_another() { [ "$(grep -cE "rank [23] on n2 has" srun.log)" -gt "$named" ]; }
await 60 "a word about the machine's death" names_another
machine_start n2 # SLURM waits two minutes for a machine that does not answer before it starts the job anew
await 90 "the end after a machine's death" says srun 3 "to be queued again"
finish srun

# ---- mpirun: a killed rank, a signal, the operator's requeue ----

submit mpirun -- --launcher mpirun --requeue scontrol
await_progress mpirun 0
on n2 kill -KILL "$(a_rank_on n2 mpirun)"
await 60 "the end after KILL" says mpirun 1 "scontrol requeue $job"
grep -qE "rank [23] on n2 has died" mpirun.log || fail "nobody names the rank that was killed"
grep -qE "the ranks ended with (137|76)," mpirun.log || fail "a killed rank ends with another code"
await_progress mpirun "$(step_of mpirun)"
scancel --batch --signal=USR1 "$job"
await 60 "the end after USR1" says mpirun 1 "the ranks ended with 75"
finish mpirun

# ---- scancel: saved, and not queued again ----

sed -i 's/^KillWait=.*/KillWait=60/' "$cluster/slurm.conf" # however busy this machine is
scontrol reconfigure
submit cancelled --
await_progress cancelled 0
scancel "$job"
await 60 "the end of a cancelled job" job_is CANCELLED
await 60 "the machines" machines_idle
[ "$(metric cancelled step | tail -n 1)" = "$(step_of cancelled)" ] || fail "scancel: the last step was not saved"
contains cancelled.log "SLURM ends the job"
job_is CANCELLED || fail "a cancelled job was queued again"
part "scancel saves and ends"

# ---- precompute ----

submit precompute -- --out frozen
await 60 "precompute" job_is COMPLETED
[ "$(find frozen -name '*.h5' | wc -l)" = 8 ] || fail "not all shards were precomputed"
part "precompute"

[ -n "${VASILY_TEST_LONG-}" ] || exit 0

# ---- by the clock: SLURM looks at limits and their signals every 30 seconds ----

submit limit --time=1 --signal=B:USR1@30 --
await_progress limit 0
await 120 "the signal before the limit" says limit 1 "time is nearly up"
await 60 "the end after it" says limit 1 "the ranks ended with 75"
finish limit

# ---- the machine on which the batch script runs dies: SLURM queues the job again ----

submit first --
await_progress first 0
machine_kill n1
scontrol update NodeName=n1 State=DOWN Reason=died # what SLURM finds out itself after SlurmdTimeout
machine_start n1
finish first

# ---- SLURM's own requeue, as at preemption ----

for launcher in srun mpirun; do
    submit preempted-$launcher -- --launcher $launcher
    await_progress preempted-$launcher 0
    scontrol requeue "$job"
    await 120 "the end of a preempted job" says preempted-$launcher 1 "SLURM ends the job"
    finish preempted-$launcher
done
if [ "$(grep -c "checkpoint of step" preempted-srun.log)" -lt 3 ]; then fail "TERM: ranks of srun did not save"; fi

# ---- a machine dies under mpirun ----

submit silent -- --launcher mpirun
await_progress silent 0
machine_kill n2
await 120 "a word about mpirun" says silent 1 "mpirun still waits for another machine: it is killed"
machine_start n2
await 60 "the end after a machine's death" says silent 1 "to be queued again"
finish silent
