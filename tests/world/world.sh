#!/bin/sh
# Wires the test's own internet: two network namespaces, joined by a veth pair.
#
# Run as `unshare --net --mount [--user --map-root-user] sh world.sh DIR SERVERS`. The
# namespace it starts in becomes the client's (where npmguard runs); the servers run in
# a second one. Nothing here has a route to any real network. Both namespaces live as
# long as the servers' process does: it holds the client's as descriptor 3.
set -eu
dir=$1 servers=$2

if [ -z "${NG_WORLD_INSIDE:-}" ]; then
    exec 3</proc/self/ns/net
    for file in resolv.conf hosts nsswitch.conf; do
        if [ -e "/etc/$file" ]; then mount --bind "$dir/etc/$file" "/etc/$file"; fi
    done
    NG_WORLD_INSIDE=1 exec unshare --net sh "$0" "$dir" "$servers"
fi

ip link add wan type veth peer name lan netns "/proc/$$/fd/3"

# The internet. `local` routes make every address of these networks the servers' own.
ip -batch - <<BATCH
link set lo up
link set wan up
address add 192.0.2.1/24 dev wan
address add 2001:db8::1/64 dev wan nodad
address add 2001:db8:1::53/128 dev lo nodad
route add local 198.51.100.0/24 dev lo
route add local 203.0.113.0/24 dev lo
route add local 10.0.0.0/8 dev lo
route add local 169.254.169.254/32 dev lo
route add local 100.100.100.200/32 dev lo
route add local 2001:db8:1::/64 dev lo
route add local fd00:ec2::254/128 dev lo
BATCH

# The client. A neighbour that does not exist swallows every packet without an answer:
# a connect to it takes as long as the client's patience lasts.
nsenter --net="/proc/$$/fd/3" ip -batch - <<BATCH
link set lo up
link set lan up
address add 192.0.2.2/24 dev lan
address add 2001:db8::2/64 dev lan nodad
route add default via 192.0.2.1
route add default via 2001:db8::1
neighbor add 192.0.2.66 lladdr 02:00:00:00:00:66 dev lan nud permanent
neighbor add 2001:db8::66 lladdr 02:00:00:00:00:66 dev lan nud permanent
BATCH

exec node "$servers" "$dir"
