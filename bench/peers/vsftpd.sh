#!/bin/sh
# vsftpd.sh HOST PORT ROOT FOLDER: vsftpd for anonymous readers, without a log, one process per
# session.
set -eu
host=$1 port=$2 root=$3 folder=$4
chmod 755 "$folder"
chmod -R a+rX,go-w "$root"
mkdir -p "$folder/empty"
cat >"$folder/vsftpd.conf" <<END
listen=YES
listen_address=$host
listen_port=$port
background=NO
anonymous_enable=YES
local_enable=NO
anon_root=$root
secure_chroot_dir=$folder/empty
one_process_model=YES
xferlog_enable=NO
max_clients=0
max_per_ip=0
END
# Killed by a signal it says so with its status; it was asked to end.
PATH=$PATH:/usr/sbin exec vsftpd "$folder/vsftpd.conf"
