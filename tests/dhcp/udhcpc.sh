#!/bin/sh
# What udhcpc does with its lease: as Debian's script does, but for where resolv.conf is.
set -eu

case $1 in
deconfig)
    ip link set "$interface" up
    ip -4 addr flush dev "$interface"
    ;;
bound | renew)
    ip -4 addr replace "$ip/$mask" dev "$interface"
    ip -4 route replace default via "${router%% *}" dev "$interface"
    {
        echo "search $domain"
        for server in $dns; do echo "nameserver $server"; done
    } >"$RESOLV_CONF"
    ;;
esac
