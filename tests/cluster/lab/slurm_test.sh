#!/bin/bash
# Three Slurm nodes on this machine, and on them: launch/slurm/generate.sbatch, `flotilla generate` inside an
# allocation (by srun and by mpirun), and a task that is killed. The same answer as without Slurm.
# Exit status 77: not root, or slurm-wlm and munge are not installed (apt-get install slurm-wlm munge).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../../.." && pwd)
binary=${FLOTILLA_BINARY_DIR:-$source/build}
model=$source/tests/golden/tiny-omni
question=(--model "$model" --max-new-tokens 12 --ignore-eos --threads 1 --quiet)
prompt="What is the capital of France?"

skip() { echo "skipped: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
for program in slurmctld slurmd munged sbatch srun; do
    command -v $program >/dev/null || skip "$program is not installed: apt-get install slurm-wlm munge"
done

folder=$(mktemp -d)
host=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf
munge_started=
cat >"$SLURM_CONF" <<END
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=16827
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
TmpFS=$folder/tmp-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=pmix
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
ReturnToService=2
KillWait=5
SlurmctldTimeout=30
SlurmdTimeout=15
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17011 CPUs=4 RealMemory=2000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17012 CPUs=4 RealMemory=2000
NodeName=n3 NodeHostname=$host NodeAddr=127.0.0.1 Port=17013 CPUs=4 RealMemory=2000
PartitionName=main Nodes=n1,n2,n3 Default=YES MaxTime=INFINITE State=UP
END

slurm_down() {
    for f in "$folder"/slurmd-n?.pid "$folder/slurmctld.pid"; do [ -f "$f" ] && kill "$(cat "$f")"; done
    [ -z "$munge_started" ] || kill "$(cat /run/munge/munged.pid)"
    sleep 1
    rm -rf "$folder"
}
trap slurm_down EXIT
chmod 755 "$folder"
mkdir -p "$folder"/{state,spool-n1,spool-n2,spool-n3,tmp-n1,tmp-n2,tmp-n3}
if ! munge -n >/dev/null 2>&1; then
    install -d -o munge -g munge -m 755 /run/munge
    runuser -u munge -- /usr/sbin/munged || skip "munged does not start"
    munge_started=yes
fi
slurmctld -c || { echo "FAILED: slurmctld does not start"; exit 1; }
sleep 1
for n in n1 n2 n3; do slurmd -N $n || { echo "FAILED: slurmd $n does not start"; exit 1; }; done
for _ in $(seq 100); do [ "$(sinfo -h -t idle -o %D)" = 3 ] && break; sleep 0.2; done

export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo # all three have the address of loopback
# Shared-memory files are named by host and local rank: three nodes under one host name would share them.
export OMPI_MCA_btl=tcp,self
fail() { echo "FAILED: $1"; cat "$folder"/{err,job.out} 2>/dev/null; exit 1; }
same() { # NAME ANSWER SECONDS
    [ "$2" = "$expected" ] || fail "$1 answered '$2' and not '$expected'"
    echo "ok: $1 ($(echo "$(date +%s.%N) - $3" | bc) s)"
}

expected=$("$binary/flotilla" generate --prompt "$prompt" "${question[@]}" --workers 1) || exit 1

began=$(date +%s.%N)
FLOTILLA=$binary/flotilla sbatch -W --nodes=2 --ntasks=3 --output="$folder/job.out" "$source/launch/slurm/generate.sbatch" \
    "$prompt" "${question[@]}" >"$folder/err" 2>&1 || fail "generate.sbatch"
same "sbatch launch/slurm/generate.sbatch, 2 workers on 2 nodes" "$(cat "$folder/job.out")" "$began"

allocated() { # WORDS OF THE ALLOCATION -- COMMAND: runs it on the first node of an allocation
    local words=()
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    printf '#!/bin/bash\nexec ' >"$folder/job.sh"
    printf '%q ' "$@" >>"$folder/job.sh"
    rm -f "$folder/job.out"
    sbatch -W "${words[@]}" --output="$folder/job.out" --error="$folder/err" "$folder/job.sh" >"$folder/sbatch" 2>&1
}

began=$(date +%s.%N)
allocated --nodes=3 --ntasks=4 -- "$binary/flotilla" generate --prompt "$prompt" "${question[@]}" --stages 2 || fail "an allocation"
same "an allocation of 4 tasks on 3 nodes, 2 stages" "$(cat "$folder/job.out")" "$began"

began=$(date +%s.%N)
allocated --nodes=3 -- "$binary/flotilla" generate --prompt "$prompt" "${question[@]}" || fail "an allocation of nodes"
same "an allocation of 3 nodes, no number of tasks" "$(cat "$folder/job.out")" "$began"

began=$(date +%s.%N)
cat >"$folder/cluster.json" <<END
{"launcher": "srun", "hosts": [{"host": "n1", "workers": 1}, {"host": "n2", "workers": 2}, {"host": "n3"}]}
END
allocated --nodes=3 --ntasks=5 -- "$binary/flotilla" generate --prompt "$prompt" "${question[@]}" --cluster "$folder/cluster.json" \
    || fail "a cluster file"
same "a cluster file of Slurm's nodes" "$(cat "$folder/job.out")" "$began"

printf '0 %s %s\n1-2 %s\n' "$binary/flotilla-coordinator" "--quiet --model $model --prompt Hello" \
    "$binary/flotilla-worker" >"$folder/own.conf"
began=$(date +%s.%N)
srun --mpi=pmix --kill-on-bad-exit=1 --nodes=2 --ntasks=3 --overcommit --multi-prog "$folder/own.conf" >"$folder/out" 2>"$folder/err" \
    || fail "srun --multi-prog without the front"
[ -s "$folder/out" ] || fail "srun --multi-prog said nothing"
echo "ok: srun --mpi=pmix --multi-prog, without the front ($(echo "$(date +%s.%N) - $began" | bc) s)"

allocated --nodes=2 --ntasks=3 -- "$binary/flotilla" generate --prompt "$prompt" --quiet --model /no/such
status=$?
[ $status = 2 ] && [ "$(wc -l <"$folder/err")" = 1 ] || fail "a faulty command ($status)"
echo "ok: a faulty command ends with 2: $(cat "$folder/err")"

began=$(date +%s.%N)
allocated --nodes=3 --ntasks=4 -- "$binary/flotilla" generate --prompt x --quiet --model "$model" --threads 1 --ignore-eos \
    --max-new-tokens 60000 &
job=$!
for _ in $(seq 100); do [ -s "$folder/job.out" ] && break; sleep 0.1; done
for pid in $(pgrep -x flotilla-worker); do # of this test: they have its environment
    grep -sqz "^SLURM_CONF=$SLURM_CONF\|^SLURM_CLUSTER_NAME=lab" /proc/"$pid"/environ && { kill -9 "$pid"; break; }
done
wait $job
status=$?
[ $status = 1 ] && [ "$(wc -l <"$folder/err")" = 1 ] && grep -q "worker rank" "$folder/err" || fail "a killed task ($status)"
echo "ok: a killed task ends the job: $(cat "$folder/err")"
