// See line_queue.h. Two buffers: one fills while the other is written.
#include "line_queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUE_BUFFER_SIZE = 64 * 1024 };

struct line_queue {
    struct line_queue_config config;
    pthread_mutex_t lock; // of what follows
    bool writing; // a job has begun or will, and takes all that comes until it finds nothing
    bool failing; // and that was said
    int error;    // of the last write
    size_t filled;
    char *filling, *emptying; // the latter is the job's
    char buffers[2][QUEUE_BUFFER_SIZE];
};

// On the heap, because the next may be started before the loop has heard of the last one's end.
struct queue_job {
    struct weir_operation operation;
    struct line_queue *queue;
    struct weir_loop *loop;
    bool ran;
};

// --- Writing -------------------------------------------------------------------------------------

// What the last write came to, and the bytes that are next, or 0.
static size_t queue_take(struct line_queue *queue, int error, char **ret_data)
{
    pthread_mutex_lock(&queue->lock);
    size_t size = queue->filled;
    queue->error = error;
    queue->writing = size > 0;
    *ret_data = queue->filling;
    queue->filling = queue->emptying;
    queue->emptying = *ret_data;
    queue->filled = 0;
    pthread_mutex_unlock(&queue->lock);
    return size;
}

static void queue_write(struct line_queue *queue)
{
    char *data;
    size_t size;
    int error = 0;
    while ((size = queue_take(queue, error, &data))) {
        uint64_t lost;
        error = serve_log_write_lines(queue->config.log, data, size, &lost);
        atomic_fetch_add_explicit(queue->config.dropped, lost, memory_order_relaxed);
    }
}

static int queue_run(struct weir_operation *operation)
{
    struct queue_job *job = (struct queue_job *)(void *)operation;
    job->ran = true;
    queue_write(job->queue);
    return 0;
}

// Says once that lines are lost, and once that they are not any more.
static void queue_report(struct line_queue *queue, struct weir_loop *loop, const char *trouble)
{
    char text[128];
    if (!queue->config.reports)
        return;
    snprintf(text, sizeof text, "%s: %s", queue->config.name,
             trouble ? trouble : "it is written again");
    line_queue_say(queue->config.reports, loop, trouble ? WEIR_LOG_WARNING : WEIR_LOG_INFO, text);
}

static void queue_done(struct weir_operation *operation, int64_t result)
{
    struct queue_job *job = (struct queue_job *)(void *)operation;
    struct line_queue *queue = job->queue;
    (void)result;
    pthread_mutex_lock(&queue->lock);
    // Without room for the job, its lines wait for the next that is added.
    if (!job->ran)
        queue->writing = false;
    int error = queue->error;
    bool changed = job->ran && queue->failing != (error != 0);
    if (changed)
        queue->failing = error != 0;
    pthread_mutex_unlock(&queue->lock);
    if (changed)
        queue_report(queue, job->loop, error ? strerror(-error) : NULL);
    free(job);
}

static void queue_start(struct line_queue *queue, struct weir_loop *loop)
{
    struct queue_job *job = calloc(1, sizeof *job);
    if (!job) {
        pthread_mutex_lock(&queue->lock);
        queue->writing = false;
        pthread_mutex_unlock(&queue->lock);
        return;
    }
    job->queue = queue;
    job->loop = loop;
    job->operation.done = queue_done;
    weir_job_start(loop, &job->operation, queue_run);
}

// --- Adding --------------------------------------------------------------------------------------

void line_queue_add(struct line_queue *queue, struct weir_loop *loop, const char *line, size_t size)
{
    pthread_mutex_lock(&queue->lock);
    bool fits = size <= QUEUE_BUFFER_SIZE - queue->filled;
    bool starts = !queue->writing, fails = !fits && !queue->failing;
    if (fits) {
        memcpy(queue->filling + queue->filled, line, size);
        queue->filled += size;
    }
    queue->failing |= !fits;
    queue->writing = true;
    pthread_mutex_unlock(&queue->lock);
    if (!fits)
        atomic_fetch_add_explicit(queue->config.dropped, 1, memory_order_relaxed);
    if (fails)
        queue_report(queue, loop, "too slow, lines are dropped");
    if (starts)
        queue_start(queue, loop);
}

void line_queue_say(struct line_queue *queue, struct weir_loop *loop, enum weir_log_level level,
                    const char *text)
{
    char line[SERVE_LOG_LINE_MAX];
    line_queue_add(queue, loop, line, serve_log_format(queue->config.log, level, text, line));
}

// --- Life ----------------------------------------------------------------------------------------

struct line_queue *line_queue_create(const struct line_queue_config *config)
{
    struct line_queue *queue = malloc(sizeof *queue);
    if (!queue)
        return NULL;
    memset(queue, 0, offsetof(struct line_queue, buffers));
    queue->config = *config;
    queue->filling = queue->buffers[0];
    queue->emptying = queue->buffers[1];
    pthread_mutex_init(&queue->lock, NULL);
    return queue;
}

void line_queue_destroy(struct line_queue *queue)
{
    if (!queue)
        return;
    queue_write(queue);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}
