#!/bin/sh
# Stands in for a DHCP client's script: prints what the client learnt, and sets the interface up when that is asked for.
env | sort | sed 's/^/DHCP: /'
case $1$reason in
    deconfig | PREINIT6) ip link set dev "$interface" up ;;
esac
