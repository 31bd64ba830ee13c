// See hosts.h.
#include "hosts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { HOSTS_CHAINS_MAX = 65536 };

struct ftp_host {
    struct ftp_host *next;
    struct weir_address address;
    uint64_t sessions;
};

int ftp_hosts_init(struct ftp_hosts *hosts, size_t count)
{
    size_t chains = 64;
    while (chains < count && chains < HOSTS_CHAINS_MAX)
        chains *= 2;
    hosts->chains = calloc(chains, sizeof(struct ftp_host *));
    // UNTESTED: the walks start servers without a limit per host
    if (!hosts->chains)
        return -ENOMEM;
    hosts->mask = chains - 1;
    pthread_mutex_init(&hosts->lock, NULL);
    return 0;
}

void ftp_hosts_fini(struct ftp_hosts *hosts)
{
    if (!hosts->chains)
        return;
    for (size_t i = 0; i <= hosts->mask; i++) {
        while (hosts->chains[i]) {
            struct ftp_host *host = hosts->chains[i];
            hosts->chains[i] = host->next;
            free(host);
        }
    }
    free(hosts->chains);
    pthread_mutex_destroy(&hosts->lock);
    hosts->chains = NULL;
}

// A client chooses the lower half of its own IPv6 address, so all of it counts; chains that it
// makes long hold its own sessions, whose number is limited. The same host in both forms of IPv4
// has the same last four bytes.
static size_t hosts_hash(const struct weir_address *address)
{
    uint32_t word = 0;
    if (address->any.sa_family == AF_INET)
        memcpy(&word, &address->in.sin_addr, sizeof word);
    else if (address->any.sa_family == AF_INET6)
        memcpy(&word, &address->in6.sin6_addr.s6_addr[12], sizeof word);
    return (size_t)((word * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

// The link to the host's entry, or the end of its chain.
static struct ftp_host **hosts_find(struct ftp_hosts *hosts, const struct weir_address *address)
{
    struct ftp_host **link = &hosts->chains[hosts_hash(address) & hosts->mask];
    while (*link && !weir_address_same_host(&(*link)->address, address))
        link = &(*link)->next;
    return link;
}

bool ftp_hosts_take(struct ftp_hosts *hosts, const struct weir_address *address, uint64_t max)
{
    pthread_mutex_lock(&hosts->lock);
    struct ftp_host **link = hosts_find(hosts, address);
    if (!*link) {
        *link = calloc(1, sizeof **link);
        if (*link)
            (*link)->address = *address;
    }
    bool taken = *link && (*link)->sessions < max;
    if (taken)
        (*link)->sessions++;
    pthread_mutex_unlock(&hosts->lock);
    return taken;
}

void ftp_hosts_give(struct ftp_hosts *hosts, const struct weir_address *address)
{
    pthread_mutex_lock(&hosts->lock);
    struct ftp_host **link = hosts_find(hosts, address);
    struct ftp_host *host = *link;
    if (--host->sessions == 0) {
        *link = host->next;
        free(host);
    }
    pthread_mutex_unlock(&hosts->lock);
}
