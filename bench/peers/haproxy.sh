#!/bin/sh
# haproxy.sh HOST PORT ROOT FOLDER: haproxy answers every request with ROOT/1k.bin from its memory,
# with one thread and no log. It serves no other file.
set -eu
host=$1 port=$2 root=$3 folder=$4
# Each connection may need two descriptors, and some are its own.
files=$(ulimit -Hn)
[ "$files" != unlimited ] && [ "$files" -lt 40100 ] || files=40100
cat >"$folder/haproxy.cfg" <<END
global
    nbthread 1
    maxconn $(((files - 100) / 2))
defaults
    mode http
    timeout client 1h
    timeout server 1h
    timeout connect 5s
    timeout http-keep-alive 1h
frontend files
    bind $host:$port backlog 4096
    http-request return status 200 content-type application/octet-stream file "$root/1k.bin"
END
PATH=$PATH:/usr/sbin exec haproxy -db -q -f "$folder/haproxy.cfg"
