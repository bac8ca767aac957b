#!/bin/bash
# Three hosts on one machine: network namespaces with addresses, names and a /dev/shm of their own, one switch,
# and a stand-in for ssh. Sourced by hosts_test.sh; needs root and iproute2.
#     hosts_up FOLDER    makes h1, h2, h3 (10.77.0.1 to 3) and FOLDER/rsh, which runs a command on one of them
#     hosts_down FOLDER
lead=flo-t$$

hosts_up() {
    ip netns add $lead-sw && ip -n $lead-sw link add br0 type bridge && ip -n $lead-sw link set br0 up
    for i in 1 2 3; do
        local ns=$lead-h$i
        ip netns add $ns
        mkdir -p /etc/netns/$ns
        ip -n $ns link set lo up
        { echo 127.0.0.1 localhost; for j in 1 2 3; do echo 10.77.0.$j h$j; done; } >/etc/netns/$ns/hosts
        ip -n $lead-sw link add p$i type veth peer name eth0 netns $ns
        ip -n $lead-sw link set p$i master br0 up
        ip -n $ns addr add 10.77.0.$i/24 dev eth0
        ip -n $ns link set eth0 up
    done
    cat >"$1/rsh" <<END
#!/bin/bash
while [ "\${1#-}" != "\$1" ]; do shift; done
host=\$1
shift
exec ip netns exec $lead-\$host unshare --uts --mount --ipc sh -c \\
    "hostname \$host; mount -t tmpfs -o size=512m shm /dev/shm; \$*"
END
    chmod +x "$1/rsh"
}

hosts_down() {
    for n in h1 h2 h3; do
        for pid in $(ip netns pids $lead-$n 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
    done
    for n in sw h1 h2 h3; do
        ip netns del $lead-$n
        rm -rf /etc/netns/$lead-$n
    done
}
