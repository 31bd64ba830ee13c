// Finding a file under the root: one function that may block, so it runs as a job; or, asked for
// what the kernel has in memory only, on the loop itself.
#ifndef HTTP_LOOKUP_H
#define HTTP_LOOKUP_H

#include <sys/types.h>

#include "answer.h"
#include "path.h"

enum {
    LOOKUP_HEAD_ROOM = 512,         // before the content: where a kept head is written
    LOOKUP_CONTENT_MAX = 96 * 1024, // larger files are not read but sent
};

enum lookup_kind {
    LOOKUP_FILE,
    LOOKUP_REDIRECT, // a directory, without its final slash
    LOOKUP_LISTING,  // a directory without an index; fd is open
    LOOKUP_REFUSED,  // status
};

// What makes two looks at a file the same version of it.
struct lookup_identity {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
    enum http_coding coding;
    bool varies;
};

struct http_lookup {
    // In.
    uint64_t began_ns; // the caller's: what is found is as old as this
    int root;          // descriptor of the root directory
    const char *index;
    bool listing;
    unsigned codings; // bit i: the client takes enum http_coding i
    bool cached_only; // -EAGAIN rather than wait for a disk
    bool head_only;   // do not read the content
    bool revalidates; // if the file is still `known`, nothing is read and `unchanged` is set
    struct lookup_identity known;
    char path[HTTP_PATH_MAX];
    // Out.
    enum lookup_kind kind;
    int status;
    int fd; // -1, or the open file or directory, the caller's to close
    bool unchanged;
    char *memory; // NULL, or LOOKUP_HEAD_ROOM bytes and the content, the caller's to free
    struct lookup_identity identity;
    time_t modified; // set by the caller from the identity: the date that is told
};

// Returns 0, or -EAGAIN with cached_only.
int http_lookup_run(struct http_lookup *lookup);

// Closes and frees what the result holds.
void http_lookup_release(struct http_lookup *lookup);

// Bits of the codings that the client takes, by Accept-Encoding.
unsigned http_codings_accepted(const struct http_request *request);

#endif
