#!/bin/sh
# vsftpd.sh HOST PORT ROOT FOLDER: vsftpd for anonymous users, tuned for what weir-bench asks of it:
# no log, no limits, one process per session. FOLDER takes its configuration. Needs root.
set -eu
host=$1 port=$2 root=$3 folder=$4
chmod 755 "$folder" "$root"
mkdir -p "$folder/empty"
cat >"$folder/vsftpd.conf" <<END
listen=YES
listen_address=$host
listen_port=$port
background=NO
anonymous_enable=YES
local_enable=NO
no_anon_password=NO
anon_root=$root
one_process_model=YES
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
anon_other_write_enable=YES
anon_umask=022
secure_chroot_dir=$folder/empty
xferlog_enable=NO
max_clients=0
max_per_ip=0
END
PATH=$PATH:/usr/sbin exec vsftpd "$folder/vsftpd.conf"
