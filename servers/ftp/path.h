// Names: paths as clients see them, below the root "/", and how they travel in replies. Nothing
// here touches the file system; that a path stays below the root is openat2's to hold (see
// files.h).
#ifndef FTP_PATH_H
#define FTP_PATH_H

#include <stdbool.h>
#include <stddef.h>

// With the final zero, as the kernel counts.
enum { FTP_PATH_MAX = 4096 };

// The absolute path without ".", ".." and double slashes that `argument` names when the working
// directory is `base`, which has that form itself. ".." in the root is the root. -ENAMETOOLONG.
int ftp_path_join(const char *base, const char *argument, char ret_path[FTP_PATH_MAX]);

// The same path for openat2 with the root's descriptor.
const char *ftp_path_relative(const char *path);

// The directory that holds the path's last name (relative, as above), and that name, which lies in
// `path`. False for the root, which has none.
bool ftp_path_split(const char *path, char ret_parent[FTP_PATH_MAX], const char **ret_name);

// A name for the control connection: line feeds as NUL, the Telnet byte 255 twice, and, if
// `quoted`, quotes twice (RFC 959's appendix II). Needs room for 2 * strlen(name); returns the
// size.
size_t ftp_path_encode(const char *name, bool quoted, char *ret_text);

// Whether `name` matches a pattern with * and ?. A dot at the beginning needs one in the pattern.
// Takes at most the product of the two sizes in steps.
bool ftp_path_matches(const char *pattern, const char *name);
bool ftp_path_is_pattern(const char *name);

#endif
