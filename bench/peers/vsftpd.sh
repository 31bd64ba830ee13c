#!/bin/sh
# vsftpd.sh HOST PORT ROOT FOLDER [YES]: vsftpd for anonymous users as its package sets it up, but
# without a log and limits. With YES a session has one process, which is quicker and less safe than
# the two of the default. FOLDER takes its configuration. Needs root.
set -eu
host=$1 port=$2 root=$3 folder=$4 one=${5-NO}
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
one_process_model=$one
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
