#!/usr/bin/env bash
# Start a SLURM of one node on the loopback, run one light notebook in `smoke` through cluster/slurm, and stop it all.
#
#     cluster/one_node.sh             run the notebook; exit status 77 where SLURM is not installed or does not start
#     cluster/one_node.sh COMMAND...  run something else with SLURM up, such as `sbatch`, `squeue` or a shell
#
# Needs Debian's packages `slurm-wlm` and `munge`, and neither root nor a running service of theirs: both daemons run
# as you, on ports and a key of their own. There is no accounting, and no cgroup, so the node holds no job to its memory.
set -euo pipefail
cd "$(dirname "$0")/.."
for program in munged slurmctld slurmd sbatch; do
    PATH="$PATH:/usr/sbin" command -v "$program" > /dev/null || {
        echo "skipped: cluster/one_node.sh: $program: not found: apt-get install slurm-wlm munge" >&2
        exit 77
    }
done
export PATH="$PATH:/usr/sbin"

place=$(mktemp -d "${TMPDIR:-/tmp}/one-node.XXXXXX")
chmod 755 "$place" # munge refuses a place that others may write to
host=$(hostname -s)
user=$(id -un)
port=$((20000 + $$ % 10000))
daemons=()

stop() {
    status=$?
    trap - EXIT INT TERM
    [ ! -S "$place/munge.socket" ] || timeout 10 scancel --quiet --user "$user" 2> /dev/null || true
    for daemon in "${daemons[@]}"; do kill "$daemon" 2> /dev/null || true; done
    wait 2> /dev/null || true
    [ "$status" -eq 0 ] || [ "$status" -eq 77 ] || tail -n 20 "$place"/*.log >&2
    rm -rf "$place"
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

head -c 1024 /dev/urandom > "$place/munge.key"
chmod 400 "$place/munge.key"
munged --foreground --force --key-file "$place/munge.key" --socket "$place/munge.socket" \
    --pid-file "$place/munged.pid" --seed-file "$place/munge.seed" > "$place/munged.log" 2>&1 &
daemons+=($!)

mkdir "$place/state" "$place/spool"
cat > "$place/slurm.conf" << END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$place/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF="$place/slurm.conf"
# Inside a job the executor drops all variables of SLURM's, and with them where its configuration is.
mkdir "$place/bin"
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$place/bin/srun"
chmod +x "$place/bin/srun"
export PATH="$place/bin:$PATH"
for _ in $(seq 50); do [ -S "$place/munge.socket" ] || sleep 0.2; done
slurmctld -D > "$place/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D -N "$host" > "$place/slurmd.log" 2>&1 &
daemons+=($!)
for _ in $(seq 60); do
    [ "$(sinfo --noheader --format %T 2> /dev/null)" != idle ] || break
    sleep 0.5
done
if [ "$(sinfo --noheader --format %T 2> /dev/null)" != idle ]; then
    echo "skipped: cluster/one_node.sh: SLURM is installed, and does not start on this machine" >&2
    tail -n 20 "$place"/*.log >&2
    exit 77
fi
sinfo

if [ $# -gt 0 ]; then
    "$@"
    exit
fi
export REPRODUCTION_WORK_ROOT="$PWD/build/one_node"
rm -rf "$REPRODUCTION_WORK_ROOT"
"${PYTHON:-.venv/bin/python}" -m snakemake --profile cluster/slurm --slurm-init-seconds-before-status-checks 2 \
    --latency-wait 10 --config profile=smoke only=1_infodiffusion/1.1_noise_schedule
