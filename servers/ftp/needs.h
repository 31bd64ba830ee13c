// What the FTP server asks of its sandbox.
#ifndef FTP_NEEDS_H
#define FTP_NEEDS_H

#include "../sandbox_calls.h"

struct ftp_server;

struct ftp_needs {
    struct sandbox_needs needs;
    struct sandbox_path root;
};

// States what the server needs, whose root is open: to write only if anybody may, to connect only
// in active mode, and to listen on its passive ports. `ret_needs` must not move.
void ftp_needs_complete(struct ftp_needs *ret_needs, const struct ftp_server *server);

#endif
