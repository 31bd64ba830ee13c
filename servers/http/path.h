// From a request's path to a file's path under the root.
#ifndef HTTP_PATH_H
#define HTTP_PATH_H

#include "text.h"

enum { HTTP_PATH_MAX = 4096 };

// Decodes percent signs, resolves "." and "..", and folds doubled slashes. The result has no
// leading slash, keeps a final one, and is "" for the root itself; ret_path ends with a zero.
// Returns 0 or the status that refuses the path: 400 for a broken escape or a zero byte; 404 for
// what leaves the root, is hidden (a name that begins with a dot, but for /.well-known), holds an
// escaped slash, or is too long.
int http_path_resolve(struct http_text path, char ret_path[HTTP_PATH_MAX]);

#endif
