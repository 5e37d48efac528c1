# shellcheck shell=bash disable=SC2154
# Sourced by tests that want a SLURM: a cluster of four machines made of this one, each with its own host name, network,
# processes and shared memory: ctl (the controller; the test itself runs there), n1 and n2 with two CPUs and what passes
# for two GPUs. All of it is in one namespace of processes, so nothing outlives the test.
#
#   cluster_enter "$@"      first of all: skips (77) what this machine cannot do, and starts the script again inside
#   cluster_start FOLDER    munge, controller and machines; returns when these are idle
#   machine_start NAME, machine_kill NAME, on NAME COMMAND...
#   cluster_stop, cluster_logs
#
# Needs root, SLURM and munge (launch/setup --test), unshare, nsenter, ip.

cluster_file=$(readlink -f "${BASH_SOURCE[0]}")

cluster_skip() {
    echo "SKIPPED $(basename "$0"): $1"
    exit 77
}

cluster_enter() {
    local tool
    if [ -n "${CLUSTER_INSIDE-}" ]; then return; fi
    [ "$(id -u)" = 0 ] || cluster_skip "namespaces take root"
    for tool in slurmctld slurmd sbatch srun scontrol munged unshare nsenter ip pgrep; do
        command -v $tool >/dev/null || cluster_skip "$tool is not installed (launch/setup --test)"
    done
    compgen -G '/usr/lib*/*/slurm*/mpi_pmix*.so' >/dev/null || compgen -G '/usr/lib*/slurm*/mpi_pmix*.so' >/dev/null ||
        cluster_skip "this SLURM has no plugin for PMIx"
    unshare --net --uts --pid --mount --ipc --fork --mount-proc true 2>/dev/null ||
        cluster_skip "this machine gives no namespaces"
    CLUSTER_INSIDE=1 exec unshare --net --uts --pid --mount --ipc --fork --mount-proc --kill-child bash "$0" "$@"
}

cluster_conf() {
    cat <<CONF
ClusterName=test
SlurmctldHost=ctl
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.socket,cred_expire=5
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/%n/spool
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/%n/slurmd.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/%n/slurmd.log
PlugStackConfig=$cluster/plugstack.conf
TmpFS=$cluster/%n/tmp
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
RequeueExit=${cluster_requeue_exit:-75}
KillWait=${cluster_kill_wait:-5}
MessageTimeout=30
SlurmdTimeout=300
NodeName=n[1-2] CPUs=2 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
CONF
}

# The names of the machines, for every program in here.
cluster_names() {
    printf '%s\n' '127.0.0.1 localhost' '10.78.0.1 ctl' '10.78.1.2 n1' '10.78.2.2 n2' >"$cluster/hosts"
    mount --bind "$cluster/hosts" /etc/hosts || cluster_skip "this machine does not let /etc/hosts be mounted over"
    hostname ctl
    ip link set lo up
    ip addr add 10.78.0.1/32 dev lo
    echo 1 >/proc/sys/net/ipv4/ip_forward
}

# What a machine runs as its process 1, in namespaces of its own: its network is a cable to ctl.
machine_main() {
    local name=$1 number=${1#n}
    hostname "$name"
    mount -t tmpfs none /dev/shm
    until ip link show "$name" >/dev/null 2>&1; do sleep 0.05; done # ctl lays the cable
    ip link set lo up
    ip addr add "10.78.$number.2/24" dev "$name"
    ip link set "$name" up
    ip route add default via "10.78.$number.1"
    slurmd -N "$name" || exit 1
    while :; do # takes in processes whose parents have ended
        sleep 1000 &
        wait $!
    done
}

declare -A machines # NAME: the process whose end is the machine's
machine_start() {
    local name=$1 number=${1#n} child=''
    rm -rf "${cluster:?}/$name/tmp" "$cluster/$name/spool"
    mkdir -p "$cluster/$name"/{tmp,spool}
    # shellcheck disable=SC2016 # the inner shell's
    unshare --net --uts --pid --mount --ipc --fork --mount-proc --kill-child \
        bash -c '. "$1"; cluster=$2; machine_main "$3"' machine "$cluster_file" "$cluster" "$name" \
        >>"$cluster/$name/log" 2>&1 &
    machines[$name]=$!
    until [ -n "$child" ] && [ "$(readlink "/proc/$child/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do
        kill -0 "${machines[$name]}" 2>/dev/null || cluster_skip "no machine in a machine: $(cat "$cluster/$name/log")"
        child=$(pgrep -P "${machines[$name]}") || sleep 0.05
    done
    if ! ip link add "to-$name" type veth peer name "$name" netns "$child" 2>"$cluster/ip.log"; then
        cluster_skip "no veth: $(cat "$cluster/ip.log")"
    fi
    ip addr add "10.78.$number.1/24" dev "to-$name"
    ip link set "to-$name" up
}

# As when the power fails: nobody is told that the connections are gone.
machine_kill() {
    ip link del "to-$1"
    kill -KILL "${machines[$1]}"
    wait "${machines[$1]}" 2>/dev/null || true
}

on() { # NAME COMMAND...
    local child
    child=$(pgrep -P "${machines[$1]}")
    nsenter -t "$child" --net --uts --pid --mount --ipc "${@:2}"
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "$what: not within the time it may take"
        sleep 0.1
    done
}

machines_idle() {
    [ "$(sinfo -h -N -t idle -o %N | sort -u | wc -l)" = 2 ]
}

cluster_start() {
    cluster=$1
    mkdir -p "$cluster"/{state,munge}
    chmod a+x "$cluster/.." # munged asks for it
    chmod 700 "$cluster/munge"
    cluster_names
    (umask 077 && head -c 128 /dev/urandom >"$cluster/munge/key")
    munged --key-file="$cluster/munge/key" --socket="$cluster/munge.socket" --pid-file="$cluster/munge/pid" \
        --log-file="$cluster/munge/log" --seed-file="$cluster/munge/seed" --num-threads=2
    cluster_conf >"$cluster/slurm.conf"
    : >"$cluster/plugstack.conf"
    printf 'NodeName=n[1-2] Name=gpu File=/dev/%s\n' null zero >"$cluster/gres.conf" # any device will do
    export SLURM_CONF=$cluster/slurm.conf
    slurmctld -c
    machine_start n1
    machine_start n2
    await 60 "the machines of the cluster" machines_idle
}

cluster_stop() {
    local machine file
    for machine in "${machines[@]}"; do
        kill -KILL "$machine" 2>/dev/null || true
        wait "$machine" 2>/dev/null || true
    done
    for file in "$cluster/slurmctld.pid" "$cluster/munge/pid"; do
        if [ -s "$file" ]; then kill -KILL "$(cat "$file")" 2>/dev/null || true; fi
    done
}

cluster_logs() { # what SLURM's daemons said last
    local log
    for log in "$cluster"/slurmctld.log "$cluster"/n?/slurmd.log "$cluster"/n?/log; do
        if [ -s "$log" ]; then echo "--- $log"; tail -n 15 "$log"; fi
    done
}
