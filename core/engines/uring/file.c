// Reads, writes and opens of files. Cached reads complete while they are submitted.
#include "uring.h"

#include <fcntl.h>

// Opens that may make or empty a file wait for the disk: the kernel gives them to a worker at once.
enum { URING_OPEN_PUNTED = O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY) };

static uint64_t uring_pointer(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

void uring_file(struct weir_loop *loop, struct weir_operation *operation)
{
    struct io_uring_sqe *sqe = uring_sqe(loop, OPERATION_FILE, 0, operation->slot);
    sqe->addr = uring_pointer(operation->data);
    switch ((enum file_kind)operation->kind) {
    case FILE_READ:
    case FILE_WRITE:
        sqe->opcode = operation->kind == FILE_READ ? IORING_OP_READ : IORING_OP_WRITE;
        sqe->fd = weir_file_descriptor(operation->file);
        sqe->len = (uint32_t)operation->size;
        sqe->off = operation->offset;
        break;
    case FILE_OPEN:
        sqe->opcode = IORING_OP_OPENAT2;
        sqe->fd = (int)operation->offset;
        sqe->len = sizeof operation->open_how;
        sqe->off = uring_pointer(operation->open_how);
        stats_add(loop, worker_punts, (operation->open_how[0] & URING_OPEN_PUNTED) != 0);
        break;
    // UNTESTED: jobs never come here
    case FILE_JOB:
    case FILE_JOB_BACKGROUND:
        break; // UNTESTED: helpers do these
    }
}
