// Lines of a log that no loop waits for: whoever adds one goes on at once. One job at a time writes
// them, so a slow disk, or a pipe that nobody reads, holds one helper thread of one loop. What
// finds the queue full is dropped and counted. An engine without helpers writes where it adds:
// there, the one connection that writes for all may have to wait.
#ifndef LINE_QUEUE_H
#define LINE_QUEUE_H

#include "serve.h"

struct line_queue;

struct line_queue_config {
    struct serve_log *log;      // outlives the queue
    _Atomic uint64_t *dropped;  // counts lines that were lost, here or by the disk
    const char *name;           // of the log, where its troubles are told
    struct line_queue *reports; // where that is; NULL: nowhere
};

// NULL when memory is out.
struct line_queue *line_queue_create(const struct line_queue_config *config);
// Writes what is left. No loop runs any more; NULL is accepted.
void line_queue_destroy(struct line_queue *queue);

// Adds a whole line, its end included. On the loop's thread; several loops may share a queue.
void line_queue_add(struct line_queue *queue, struct weir_loop *loop, const char *line,
                    size_t size);
// Adds a line in the form of the server's log; see serve_log_format().
void line_queue_say(struct line_queue *queue, struct weir_loop *loop, enum weir_log_level level,
                    const char *text);

#endif
