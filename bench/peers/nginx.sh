#!/bin/sh
# nginx.sh HOST PORT ROOT FOLDER [CHUNK]: nginx with one worker, tuned for what weir-bench asks of
# it: no log, an open-file cache, sendfile, connections that stay. FOLDER takes its configuration.
# CHUNK is what one sendfile takes at most, nginx's own choice by default.
set -eu
host=$1 port=$2 root=$3 folder=$4
chmod 755 "$folder"
cat >"$folder/nginx.conf" <<END
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log $folder/nginx.log;
worker_rlimit_nofile 65536;
events { worker_connections 20000; use epoll; multi_accept on; }
http {
    access_log off;
    default_type application/octet-stream;
    sendfile on; sendfile_max_chunk ${5:-2m}; tcp_nopush on; tcp_nodelay on;
    keepalive_timeout 3600; keepalive_requests 1000000000;
    open_file_cache max=1000; open_file_cache_valid 60s; open_file_cache_min_uses 1;
    client_body_temp_path $folder/body; proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi; uwsgi_temp_path $folder/uwsgi; scgi_temp_path $folder/scgi;
    server { listen $host:$port backlog=4096; root $root; }
}
END
PATH=$PATH:/usr/sbin exec nginx -c "$folder/nginx.conf"
