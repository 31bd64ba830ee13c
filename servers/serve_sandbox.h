// What the sandbox is told about a server's options: its files, sockets, user and limits.
#ifndef SERVE_SANDBOX_H
#define SERVE_SANDBOX_H

#include "privileges.h"
#include "sandbox.h"
#include "serve.h"

// Fills the sandbox from the settings: the folders of log, statistics and unix sockets stay in
// reach. -ENOSPC: there are too many.
int serve_sandbox_init(struct sandbox *sandbox, const struct serve_settings *settings);

// Whether the kernel has TCP Fast Open for clients, which is its default; where nothing can be read
// (a root folder of its own has no /proc), it is taken for granted.
bool serve_sandbox_has_fast_open(void);

// Has the server's loops restricted and confined.
void serve_sandbox_configure(struct sandbox *sandbox, struct weir_server_config *config);

// Whether the listeners and what they accept must never connect (weir_socket_options): a ring could
// have them do it.
bool serve_sandbox_is_incoming_only(const struct sandbox *sandbox, const char *engine);

// What is left open, and how to close it, where a ring can connect sockets that the server has by
// TCP Fast Open; or an empty text. Mode on serves then and says so, strict does not start.
void serve_sandbox_fast_open(const struct sandbox *sandbox, char *ret_text, size_t size);

// Advice where rings may not fit into the limit of locked memory, or an empty text.
void serve_sandbox_memlock(const struct serve_settings *settings, char *ret_text, size_t size);

#endif
