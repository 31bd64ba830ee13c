// The whole of `weir http` as a function, for programs that have routes of their own.
#ifndef HTTP_PROGRAM_H
#define HTTP_PROGRAM_H

#include "handler.h"

enum { HTTP_PROGRAM_ROUTES_MAX = 64 };

// Reads the options of `weir http` from argv[1] on, serves until a signal ends it, and returns the
// exit status. The program's routes (at most HTTP_PROGRAM_ROUTES_MAX, and theirs until it returns)
// are asked in their order, before the files or the echo handler. The sandbox holds for them, too,
// and closes the program's descriptors that are not close-on-exec: it takes them for inherited.
int http_program(int argc, char **argv, const struct http_route *routes, size_t count);

#endif
