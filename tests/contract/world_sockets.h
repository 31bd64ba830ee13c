// What the two worlds over the kernel's sockets share: the peers, the clock, the descriptors.
#ifndef CONTRACT_WORLD_SOCKETS_H
#define CONTRACT_WORLD_SOCKETS_H

#include "world.h"

uint64_t sockets_now(struct world *world);
uint32_t sockets_descriptors(struct world *world);
uint64_t sockets_waited(struct world *world);
int sockets_peer_connect(struct peer *peer, const struct weir_address *address,
                         const struct peer_options *options);
int sockets_peer_connected(struct peer *peer);
int64_t sockets_peer_write(struct peer *peer, const void *data, size_t size);
int64_t sockets_peer_read(struct peer *peer, void *data, size_t size);
void sockets_peer_half_close(struct peer *peer);
void sockets_peer_close(struct peer *peer, bool reset);
int sockets_peer_listen(struct peer *peer, const struct weir_address *address, int backlog,
                        struct weir_address *ret_address);
int sockets_peer_accept(struct peer *listener, struct peer *peer);

#endif
