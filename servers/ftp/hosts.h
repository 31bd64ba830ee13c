// How many sessions each client's host has, over all threads.
#ifndef FTP_HOSTS_H
#define FTP_HOSTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir.h>

struct ftp_host;

// Chains of hosts that have sessions; empty and unused while there is no limit.
struct ftp_hosts {
    pthread_mutex_t lock;
    struct ftp_host **chains;
    size_t mask; // their number less one, which is a power of two
};

// Room for about `count` hosts; more only cost time. -ENOMEM.
int ftp_hosts_init(struct ftp_hosts *hosts, size_t count);
void ftp_hosts_fini(struct ftp_hosts *hosts);

// Counts a session of the host; false, and it is not counted, when it has `max` already or there is
// no memory. Give each counted one back.
bool ftp_hosts_take(struct ftp_hosts *hosts, const struct weir_address *address, uint64_t max);
void ftp_hosts_give(struct ftp_hosts *hosts, const struct weir_address *address);

#endif
