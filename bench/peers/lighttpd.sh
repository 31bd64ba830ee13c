#!/bin/sh
# lighttpd.sh HOST PORT ROOT FOLDER: lighttpd with one worker, no log, sendfile, connections that
# stay.
set -eu
host=$1 port=$2 root=$3 folder=$4
cat >"$folder/lighttpd.conf" <<END
server.document-root = "$root"
server.bind = "$host"
server.port = $port
server.event-handler = "linux-sysepoll"
server.network-backend = "sendfile"
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 3600
server.max-fds = 65536
server.max-connections = 20000
server.stat-cache-engine = "simple"
mimetype.assign = ( "" => "application/octet-stream" )
END
PATH=$PATH:/usr/sbin exec lighttpd -D -f "$folder/lighttpd.conf"
