#!/bin/sh
# h2o.sh HOST PORT ROOT FOLDER: h2o with one thread, no log, connections that stay.
set -eu
host=$1 port=$2 root=$3 folder=$4
# Started by root it becomes another user, who must be able to read.
chmod -R a+rX "$folder"
cat >"$folder/h2o.conf" <<END
num-threads: 1
max-connections: 20000
http1-request-timeout: 3600
listen:
  host: $host
  port: $port
hosts:
  default:
    paths:
      /:
        file.dir: $root
END
exec h2o -c "$folder/h2o.conf"
