// A file to a TCP socket by the calls that programs use for it, without any loop: what weir's own
// way is to be measured against. The file lies in the page cache; the peer drops what comes.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "micro.h"

enum { FILE_BUFFER = 65536 };

struct micro_file {
    int file, out, in, pipe[2];
    size_t size, sent, piped;
    // Moves some bytes from the file to the socket; 0 or less with errno: none.
    ssize_t (*move)(struct micro_file *file);
    char *buffer;
};

static ssize_t file_by_sendfile(struct micro_file *file)
{
    off_t at = (off_t)file->sent;
    return sendfile(file->out, file->file, &at, file->size - file->sent);
}

static ssize_t file_by_copy(struct micro_file *file)
{
    ssize_t got = pread(file->file, file->buffer, FILE_BUFFER, (off_t)file->sent);
    return got <= 0 ? got : send(file->out, file->buffer, (size_t)got, MSG_NOSIGNAL);
}

static ssize_t file_by_splice(struct micro_file *file)
{
    off_t at = (off_t)(file->sent + file->piped);
    size_t left = file->size - file->sent - file->piped;
    if (left > 0 && file->piped == 0) {
        ssize_t got = splice(file->file, &at, file->pipe[1], NULL, left, SPLICE_F_NONBLOCK);
        if (got <= 0)
            return got;
        file->piped = (size_t)got;
    }
    ssize_t sent = splice(file->pipe[0], NULL, file->out, NULL, file->piped, SPLICE_F_NONBLOCK);
    if (sent > 0)
        file->piped -= (size_t)sent;
    return sent;
}

static const struct {
    const char *name;
    ssize_t (*move)(struct micro_file *file);
} file_methods[] = {
    { "sendfile", file_by_sendfile },
    { "copy", file_by_copy },
    { "splice", file_by_splice },
};

// Two ends of a loopback connection, neither of which blocks.
static bool file_connect(struct micro_file *file)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    file->in = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool right = listener >= 0 && file->in >= 0 &&
                 bind(listener, (struct sockaddr *)&address, size) == 0 &&
                 listen(listener, 1) == 0 &&
                 getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
                 connect(file->in, (struct sockaddr *)&address, size) == 0 &&
                 (file->out = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0 &&
                 fcntl(file->in, F_SETFL, O_NONBLOCK) == 0;
    if (listener >= 0)
        close(listener);
    return right;
}

static bool file_fill(struct micro_file *file)
{
    for (size_t at = 0; at < file->size;) {
        size_t part = file->size - at < FILE_BUFFER ? file->size - at : FILE_BUFFER;
        ssize_t written = write(file->file, file->buffer, part);
        if (written <= 0)
            return false;
        at += (size_t)written;
    }
    return true;
}

struct micro_file *micro_file_create(const char *method, size_t size)
{
    struct micro_file *file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    file->out = file->in = file->pipe[0] = file->pipe[1] = -1;
    file->size = size;
    file->file = memfd_create("micro", MFD_CLOEXEC);
    file->buffer = calloc(1, FILE_BUFFER);
    for (size_t i = 0; i < sizeof file_methods / sizeof *file_methods; i++)
        if (strcmp(file_methods[i].name, method) == 0)
            file->move = file_methods[i].move;
    if (file->file >= 0 && file->buffer && file->move && pipe2(file->pipe, O_CLOEXEC) == 0 &&
        file_fill(file) && file_connect(file))
        return file;
    micro_file_destroy(file);
    return NULL;
}

void micro_file_destroy(struct micro_file *file)
{
    if (!file)
        return;
    int fds[] = { file->file, file->out, file->in, file->pipe[0], file->pipe[1] };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(file->buffer);
    free(file);
}

bool micro_file_send(struct micro_file *file)
{
    size_t taken = 0;
    file->sent = 0;
    file->piped = 0;
    while (taken < file->size) {
        if (file->sent < file->size) {
            ssize_t moved = file->move(file);
            if (moved == 0 || (moved < 0 && errno != EAGAIN))
                return false;
            file->sent += moved > 0 ? (size_t)moved : 0;
        }
        ssize_t got = recv(file->in, NULL, file->size - taken, MSG_TRUNC);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            return false;
        taken += got > 0 ? (size_t)got : 0;
    }
    return true;
}
