// What the sandbox is told about a server's options: its files, sockets, user and limits.
#ifndef SERVE_SANDBOX_H
#define SERVE_SANDBOX_H

#include "privileges.h"
#include "sandbox.h"
#include "serve.h"

// Fills the sandbox from the settings: the folders of log, statistics and unix sockets stay in
// reach. -ENOSPC: there are too many.
int serve_sandbox_init(struct sandbox *sandbox, const struct serve_settings *settings);

// Has the server's loops restricted and confined.
void serve_sandbox_configure(struct sandbox *sandbox, struct weir_server_config *config);

// Advice where rings may not fit into the limit of locked memory, or an empty text.
void serve_sandbox_memlock(const struct serve_settings *settings, char *ret_text, size_t size);

#endif
