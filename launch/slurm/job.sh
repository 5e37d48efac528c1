# shellcheck shell=bash
# Sourced by train.sbatch and precompute.sbatch: the batch script of a job that ends only when its work is done.
#
# SLURM and this script divide the work so:
#
#   time limit near       SLURM sends USR1 to this script (--signal=B:USR1@...), which passes it to the launcher and so
#                         to every rank: they finish the step, save, end with 75; the job is queued again.
#   a rank is lost        the others end with 76 and name it (docs/reliability.md); the job is queued again.
#   scancel, scontrol     SLURM sends TERM to all ranks, and KILL after KillWait seconds. Ranks take TERM as they take
#   requeue, preemption   USR1. What becomes of the job is SLURM's: this script does not queue it again.
#   a machine is lost     SLURM queues the job again (--requeue), if the ranks on the others did not bring it about first.
#
# The job is not queued again after an end that would repeat itself (wrong config, missing files, NaN), nor after --tries
# starts in a row that left no new checkpoint (precompute: no new file, and none made anew).

say() {
    printf '%(%H:%M:%S)T launch/slurm: %s\n' -1 "$*" >&2
}
die() {
    say "$*"
    job_give_up 2
}

# --- The command line -------------------------------------------------------------------------------------------------

# Leaves `arguments` (all that is vasily's, which looks at them itself: job_check).
job_arguments() {
    arguments=()
    dry_run=no launcher=srun program='' container='' local='' requeue=auto tries=3
    while [ $# -gt 0 ]; do
        case $1 in
        --launcher | --program | --container | --local | --requeue | --tries)
            [ $# -ge 2 ] || die "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        --launcher=* | --program=* | --container=* | --local=* | --requeue=* | --tries=*)
            set -- "${1%%=*}" "${1#*=}" "${@:2}" # once more, as two
            continue
            ;;
        --dry-run) dry_run=yes ;;
        --dry-run=*) die "$1: --dry-run takes no value" ;;
        --) ;; # what comes behind it are overrides, which stand anywhere
        --help | -h)
            sed -n '2,/^#SBATCH/s/^# \{0,1\}//p' "$script" | sed '/^SBATCH/d'
            exit 0
            ;;
        --resume | --resume=*) die "$1: a job goes on from its newest checkpoint; init.from takes weights to begin with" ;;
        *) arguments+=("$1") ;;
        esac
        shift
    done
    case $launcher in srun | mpirun) ;; *) die "--launcher $launcher: srun or mpirun" ;; esac
    case $requeue in auto | exit | scontrol | no) ;; *) die "--requeue $requeue: auto, exit, scontrol or no" ;; esac
    [[ $tries =~ ^[1-9][0-9]*$ ]] || die "--tries $tries: a whole number of at least 1"
    case ${arguments[0]-} in '' | -*) die "which CONFIG? It comes before vasily's own options; see --help" ;; esac
}

# Leaves `run`: what starts vasily, on any machine.
job_program() {
    local place
    if [ -z "$program" ] && [ -n "$container" ]; then program=vasily; fi
    for place in "$home/build/release/vasily" "$home/bin/vasily"; do
        if [ -z "$program" ] && [ -x "$place" ]; then program=$place; fi
    done
    [ -n "$program" ] || die "$home/build/release/vasily is not there: build it, or name --program or --container"
    run=("$program")
    if [ -n "$container" ]; then
        [ -e "$container" ] || die "--container $container: no such file"
        run=(apptainer exec --nv "$container" "$program")
    fi
}

# Ends the script unless vasily takes these arguments and their config; it says itself what is wrong.
job_check() {
    local code=0 why
    "${run[@]}" config --for "$kind" -- "${arguments[@]}" >/dev/null || code=$?
    if [ "$code" = 0 ]; then return; fi
    why=$(job_repeats "$code")
    die "not started: ${why:-$program ended with $code}; see above"
}

# job_value KEY: what the config says that vasily would use.
job_value() {
    "${run[@]}" config --for "$kind" --value "$1" -- "${arguments[@]}" 2>/dev/null # job_check has shown what it says
}

# What `vasily plan` takes of the arguments: CONFIG and its overrides. Of train's own options each has a value.
job_plan() {
    local planned=("${arguments[0]}") i
    for ((i = 1; i < ${#arguments[@]}; i++)); do
        case ${arguments[i]} in
        --*=*) ;;
        --*) i=$((i + 1)) ;;
        *) planned+=("${arguments[i]}") ;;
        esac
    done
    "${run[@]}" plan "${planned[@]}" --ranks "$ranks"
}

# --- What is started --------------------------------------------------------------------------------------------------

# sbatch_line NAME: what this script's own #SBATCH lines say, where there is no job yet.
sbatch_line() {
    sed -n "s/^#SBATCH --$1=//p" "$script"
}

# Whether what SLURM counts as a CPU of this machine is one of several threads of a core.
cpus_are_threads() {
    scontrol show node -o "${SLURMD_NODENAME-}" 2>/dev/null | awk '
        { for (i = 1; i <= NF; i++) { split($i, kv, "="); value[kv[1]] = kv[2] } }
        END { exit !(value["ThreadsPerCore"] > 1 && value["CPUTot"] > value["Sockets"] * value["CoresPerSocket"]) }'
}

# Leaves `nodes`, `ranks`, `cpus` and `launch`: the command but for the program.
job_launch() {
    local per_node
    nodes=${SLURM_JOB_NUM_NODES:-$(sbatch_line nodes)}
    per_node=${SLURM_NTASKS_PER_NODE:-$(sbatch_line ntasks-per-node)}
    ranks=${SLURM_NTASKS:-$((nodes * per_node))}
    cpus=${SLURM_CPUS_PER_TASK-}
    if [ -z "${SLURM_JOB_ID-}" ]; then cpus=$(sbatch_line cpus-per-task); fi
    if [ "$launcher" = srun ]; then
        # All GPUs of a machine are visible to each of its ranks, which take them by their number there.
        launch=(srun --mpi=pmix --kill-on-bad-exit=1 --ntasks="$ranks" --distribution=block --cpu-bind=cores)
        if [ -n "$cpus" ]; then launch+=(--cpus-per-task="$cpus"); fi # sbatch's is not handed on
    else
        # A packed folder (launch/pack) has its own.
        if [ -x "$home/bin/mpirun" ]; then launch=("$home/bin/mpirun"); else launch=(mpirun); fi
        launch+=(-n "$ranks" --map-by "ppr:$per_node:node:PE=${cpus:-1}")
        if [ -z "$cpus" ]; then
            launch+=(--bind-to none)
        elif cpus_are_threads; then
            launch+=(--use-hwthread-cpus --bind-to hwthread)
        else
            launch+=(--bind-to core)
        fi
    fi
}

job_show() {
    local id="as this file's #SBATCH lines say"
    if [ -n "${SLURM_JOB_ID-}" ]; then id="job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1))"; fi
    say "$id: $ranks ranks on $nodes machines, ${cpus:-any} CPUs each"
    say "starts $(printf '%q ' "${launch[@]}" "$home/launch/slurm/rank" "$local" "${command[@]}")"
    say "works in $(pwd), writes to ${folder:-the folders of the shards}, which ${before:-(nothing is known of it)}"
}

# --- How far it is ----------------------------------------------------------------------------------------------------

# What the work has left on the disk so far, in words that change whenever there is more of it; "" where it is not known.
job_progress() {
    local newest files
    if [ "$kind" = train ]; then
        newest=$(readlink "$folder/checkpoints/latest" 2>/dev/null) || newest=''
        if [ -n "$newest" ]; then echo "has a checkpoint of ${newest##*/}"; else echo "has no checkpoint yet"; fi
    elif [ -n "$folder" ]; then
        # A file that is made anew is another inode under the old name. `find` has both from the folder, without a look
        # at each file, and no clock of a machine or a file server comes into it.
        files=$(find "$folder" -name '*.h5' -printf '%i %P\n' 2>/dev/null | LC_ALL=C sort)
        if [ -z "$files" ]; then
            echo "has no files yet"
        else
            echo "has $(wc -l <<<"$files") files, whose state is $(cksum <<<"$files" | cut -d ' ' -f 1)"
        fi
    fi
}

# Counts starts of this job with the same progress; leaves `starts`, this one included.
job_count_start() {
    local job='' count=0 progress=''
    starts=1
    record=${folder:-$(pwd)}/slurm-starts
    if [ -e "$record" ]; then read -r job count progress <"$record" || true; fi
    if [ "$job" = "$SLURM_JOB_ID" ] && [ "$progress" = "$before" ]; then starts=$((count + 1)); fi
    mkdir -p "$(dirname "$record")"
    echo "$SLURM_JOB_ID $starts $before" >"$record" ||
        die "$record cannot be written, and a job that cannot count its starts would not know when to give up"
}

# --- Running ----------------------------------------------------------------------------------------------------------

# Where a machine does not answer any more, mpirun waits for its daemon until the system gives up the connection, which may
# be a quarter of an hour after the ranks have ended. Ends mpirun when the ranks of this machine were seen and have been
# gone for VASILY_MPIRUN_PATIENCE seconds.
job_bound_mpirun() {
    local gone='' patience=${VASILY_MPIRUN_PATIENCE:-30}
    while kill -0 "$child" 2>/dev/null; do
        sleep 1
        if ps -o comm= --ppid "$child" | grep -qv '^srun'; then
            gone=0
        elif [ -n "$gone" ] && [ $((gone += 1)) -gt "$patience" ]; then
            say "the ranks of this machine ended $patience seconds ago, and mpirun still waits for another machine: it is killed"
            kill -KILL "$child"
            return
        fi
    done
}

# Leaves `code` and `outcome`, which says it in words. The batch script notes in `early` that it was told USR1 before
# these traps are set. A trapped signal ends `wait` early, which then is repeated.
job_run() {
    local status
    child='' told='' ended='' code=''
    trap 'told=yes; job_forward' USR1
    trap 'told=yes; ended=yes; job_forward' TERM INT
    if [ -n "${early-}$told" ]; then
        say "time is nearly up already: the ranks are not started"
        code=75 outcome="the job was told to end before the ranks were started"
        return
    fi
    "${launch[@]}" "$home/launch/slurm/rank" "$local" "${command[@]}" &
    child=$!
    if [ -n "$told" ]; then job_forward; fi # while they were started
    if [ "$launcher" = mpirun ]; then job_bound_mpirun & fi
    while :; do
        told=''
        status=0
        wait "$child" || status=$?
        if [ -z "$told" ]; then break; fi
        code=$status
    done
    # Bash forgets a child of which it has told: then what it told is the code.
    if [ "$status" != 127 ] || [ -z "$code" ]; then code=$status; fi
    outcome="the ranks ended with $code"
}

# mpirun must not be told TERM, upon which it kills the ranks; USR1 it hands on, and srun, too.
job_forward() {
    if [ -z "$child" ]; then return; fi
    if [ -z "$ended" ]; then say "time is nearly up: the ranks are told to save and end"; fi
    kill -USR1 "$child" 2>/dev/null
}

# --- The end ----------------------------------------------------------------------------------------------------------

# Ends that come again however often one starts.
job_repeats() {
    case $1 in
    2) echo "the command line or the config is wrong" ;;
    3) echo "a file or a disk is in the way" ;;
    4) echo "memory does not suffice" ;;
    5) echo "numbers are not finite" ;;
    70) echo "a bug" ;;
    126 | 127) echo "the program cannot be started" ;;
    130) echo "it was interrupted" ;;
    esac
}

# site_lists KEY CODE: whether this key of the cluster's configuration, as in `site`, lists the exit code, alone or in a
# range.
site_lists() {
    awk -F '=' -v key="$1" -v code="$2" '
        { name = $1; gsub(/ /, "", name) }
        name == key {
            n = split($2, part, ",")
            for (i = 1; i <= n; i++) {
                split(part[i], ends, "-")
                if (ends[1] + 0 == code || (ends[1] + 0 < code && ends[2] + 0 >= code)) found = 1
            }
        }
        END { exit !found }' <<<"$site"
}
site_ask() {
    site=$(scontrol show config 2>/dev/null | grep '^RequeueExit')
}

# Whether a job that ends with this code may be queued again by the cluster, ready to start or held. 75 never is the end of
# one that is not: it says so.
site_may_requeue() {
    [ "$1" = 75 ] || site_lists RequeueExit "$1" || site_lists RequeueExitHold "$1"
}

# job_give_up CODE: ends the script, and the job for good: with CODE, or, where that may queue the job again, with one that
# does not. A cluster that does not answer may have any rule.
job_give_up() {
    local code=$1 other
    if [ -z "${SLURM_JOB_ID-}" ]; then exit "$code"; fi
    site_ask
    if [ -z "$site" ]; then
        code=1
    elif site_may_requeue "$code"; then
        for other in 1 {100..125}; do
            code=$other
            if ! site_may_requeue "$code"; then break; fi
        done
    fi
    if [ "$code" != "$1" ]; then say "the job ends with $code instead of $1, upon which it might be queued again"; fi
    exit "$code"
}

# Ends the script, and the job so that SLURM queues it again.
job_queue_again() {
    local how=$requeue
    site_ask
    if [ "$how" = auto ]; then how=$(site_lists RequeueExit 75 && echo exit || echo scontrol); fi
    if [ "$how" = exit ]; then
        say "$1; the job ends with 75 to be queued again"
        exit 75
    fi
    say "$1; scontrol requeue $SLURM_JOB_ID"
    trap 'exit 75' TERM # SLURM ends this script
    if ! scontrol requeue "$SLURM_JOB_ID"; then
        if [ -z "$site" ]; then # it may be back when the job has ended
            say "the cluster does not answer; the job ends with 75, upon which it is queued again where RequeueExit lists it"
            exit 75
        fi
        say "it cannot be queued again: submit it anew, it goes on where it is"
        job_give_up "$code"
    fi
    for ((i = 0; i < 120; i++)); do
        sleep 1 &
        wait $!
    done
    exit 75
}

job_end() {
    local after why
    after=$(job_progress)
    if [ "$code" = 0 ]; then
        say "done"
        exit 0
    fi
    outcome="$outcome, the run ${after:-goes on where it is}"
    if [ -n "$ended" ]; then
        say "SLURM ends the job; $outcome"
        exit 143
    fi
    why=$(job_repeats "$code")
    if [ -n "$why" ]; then
        say "not queued again: the ranks ended with $code, $why; see their message above"
        job_give_up "$code"
    fi
    if [ "$requeue" = no ]; then
        say "not queued again, by --requeue no: $outcome"
        job_give_up "$code"
    fi
    if [ "$after" = "$before" ] && [ "$starts" -ge "$tries" ]; then
        say "not queued again: $starts starts in a row ended without anything new, the last with $code; the run" \
            "${after:-goes on where it is}. See the messages above; docs/cluster.md has what to do"
        job_give_up "$code"
    fi
    job_queue_again "$outcome"
}

# job_main train|precompute SCRIPT FOLDER-OF-THIS-FILE ARGUMENT...
job_main() {
    set -u
    kind=$1 script=$2 home=$(cd "$3/../.." && pwd)
    shift 3
    job_arguments "$@"
    job_program
    if [ -z "${SLURM_JOB_ID-}" ] && [ "$dry_run" = no ]; then
        die "submit it: sbatch $script $*; or --dry-run prints what would start"
    fi
    job_check
    command=("${run[@]}" "$kind" "${arguments[@]}")
    if [ "$kind" = train ]; then
        command+=(--resume auto)
        cache=$(job_value device.cache) && lock=$(job_value run.lock_seconds) && folder=$(job_value run.dir) ||
            die "not started: the config cannot be read any more"
        if [ -n "$local" ] && [ -z "$cache" ]; then command+=("device.cache=$local/plans"); fi
        # A file server holds the lock of a machine that was lost for a while.
        if [ "$lock" = 0 ]; then command+=(run.lock_seconds=300); fi
    else
        # "" is beside the shards.
        folder=$(job_value frozen.path) || die "not started: the config cannot be read any more"
    fi
    before=$(job_progress)
    job_launch
    job_show
    if [ "$dry_run" = yes ]; then
        if [ "$kind" = train ]; then job_plan || die "so many ranks cannot train it: choose other --nodes"; fi
        exit 0
    fi
    job_count_start
    job_run
    job_end
}
