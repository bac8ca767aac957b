#!/bin/bash
# A job over three hosts, by --hosts, by a hostfile and by a cluster file; then with a worker killed on another
# host. The same answer as on this machine alone. Exit status 77: not root, or no network namespaces here.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../../.." && pwd)
flotilla=${FLOTILLA_BINARY_DIR:-$source/build}/flotilla
model=$source/tests/golden/tiny-omni
question=(--model "$model" --prompt "What is the capital of France?" --max-new-tokens 12 --ignore-eos --threads 1)
. "$here/hosts.sh"

skip() { echo "skipped: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
command -v ip >/dev/null || skip "needs iproute2"
ip netns add $lead-probe 2>/dev/null && ip netns del $lead-probe || skip "no network namespaces here"

folder=$(mktemp -d)
hosts_up "$folder" || skip "the hosts could not be made"
trap 'hosts_down; rm -rf "$folder"' EXIT
export OMPI_MCA_plm_rsh_agent=$folder/rsh
unset OMPI_MCA_oob_tcp_if_include OMPI_MCA_btl_tcp_if_include

fail() { echo "FAILED: $1"; cat "$folder/err"; exit 1; }
on_h1() { "$folder/rsh" h1 "cd '$folder' && timeout 100 $(printf '%q ' "$@")" 2>"$folder/err"; }
same() { # NAME COMMAND...: the answer is the expected one
    local name=$1 answer began=$(date +%s.%N)
    shift
    answer=$(on_h1 "$@") || fail "$name ended with exit status $?"
    [ "$answer" = "$expected" ] || fail "$name answered '$answer' and not '$expected'"
    echo "ok: $name ($(echo "$(date +%s.%N) - $began" | bc) s)"
}

expected=$("$flotilla" generate --quiet "${question[@]}" --workers 1) || exit 1
same "--hosts" "$flotilla" generate --quiet "${question[@]}" --hosts h1:1,h2:2 --interface 10.77.0.0/24
same "--hosts without an interface" "$flotilla" generate --quiet "${question[@]}" --hosts h1:1,h2:1,h3:1
same "workers on other hosts alone" "$flotilla" generate --quiet "${question[@]}" --hosts h2:1,h3:1
printf 'h1 slots=1\nh2 slots=1 # a comment\nh3 slots=2\n' >"$folder/hostfile"
same "a hostfile" "$flotilla" generate --quiet "${question[@]}" --hosts "$folder/hostfile" --stages 2
cat >"$folder/cluster.json" <<END
{"name": "lab", "stages": 2, "interface": "eth0", "launcher": "mpirun", "threads": 1, "model": "$model",
 "hosts": [{"host": "h1", "workers": 1, "memory": "1G"}, {"host": "h3", "workers": 2}]}
END
same "a cluster file" "$flotilla" generate --quiet --prompt "What is the capital of France?" --max-new-tokens 12 \
    --ignore-eos --cluster "$folder/cluster.json" --deterministic

on_h1 "$flotilla" generate --quiet "${question[@]}" --hosts h1:1,nowhere:1 >"$folder/out"
[ $? = 1 ] && [ "$(wc -l <"$folder/err")" = 1 ] && [ ! -s "$folder/out" ] || fail "a host that is not there"
echo "ok: a host that is not there: $(cat "$folder/err")"

"$folder/rsh" h1 "exec timeout 100 $flotilla generate --quiet --model $model --prompt x --ignore-eos --threads 1 \
    --max-new-tokens 60000 --hosts h1:1,h2:1,h3:1" >"$folder/out" 2>"$folder/err" &
job=$!
for _ in $(seq 100); do [ -s "$folder/out" ] && break; sleep 0.1; done
began=$(date +%s.%N)
for pid in $(ip netns pids $lead-h3); do
    [ "$(cat /proc/"$pid"/comm)" = flotilla-worker ] && kill -9 "$pid"
done
wait $job
status=$?
sleep 1
[ $status = 1 ] && grep -q "worker rank 3 on host h3 was killed by signal 9" "$folder/err" || fail "a killed worker ($status)"
for n in h1 h2 h3; do
    [ -z "$(ip netns pids $lead-$n | xargs -r ps -o comm= -p | grep flotilla)" ] || fail "ranks are left on $n"
done
echo "ok: a worker killed on h3 ends the job everywhere ($(echo "$(date +%s.%N) - $began - 1" | bc) s): $(cat "$folder/err")"
