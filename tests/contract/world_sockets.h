// What worlds share: the peers over the kernel's sockets, and the loop that turns by hand.
#ifndef CONTRACT_WORLD_SOCKETS_H
#define CONTRACT_WORLD_SOCKETS_H

#include "world.h"

uint64_t sockets_now(struct world *world);
uint32_t sockets_descriptors(struct world *world);
uint64_t sockets_waited(struct world *world);
// Nanoseconds that a thread, named as in /proc, has waited for a processor; 0 of one that ended.
uint64_t sockets_thread_waited(const char *thread);
void sockets_peers_look(struct world *world);
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

// A loop on the test's own thread, whatever it stands on.
int lockstep_listen(struct world *world, const struct weir_address *address,
                    const struct weir_listener_config *config, struct weir_address *ret_address);
bool lockstep_call(struct world *world, struct subject *subject,
                   void (*function)(struct weir_loop *loop, void *argument), void *argument);
void lockstep_stats(struct world *world, struct weir_stats *ret_stats);
void lockstep_close(struct world *world);

#endif
