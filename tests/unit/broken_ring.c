// A ring whose enter fails for good, with everything in flight that can be: its owners are told, in
// order, and the kernel has let go of their memory.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <core/engines/uring/ring.h>
#include <core/loop.h>

enum { BROKEN_TURNS_MAX = 1000, BROKEN_STREAMS = 2, BROKEN_MARK = 7, BROKEN_WAIT_MS = 10000 };

// The kernel's ring, until it is to break.
static struct ring_operations broken_operations;
static bool broken_now;

static int broken_enter(void *state, struct io_uring *ring, unsigned submit, unsigned wait,
                        unsigned flags, void *argument, size_t size)
{
    if (broken_now)
        return -EIO;
    return ring_kernel.enter(state, ring, submit, wait, flags, argument, size);
}

struct broken {
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_address address;
    int clients[BROKEN_STREAMS];
    int pipe[2], memory;
    uint32_t opened, closed, read, again, received, worked, cleaned, posted;
    int64_t read_result, again_result, received_result, worked_result;
    bool first_closed;
    pthread_t thread; // the loop's, which may not do what jobs may
    int reason;
    char data[16];
    struct weir_stream *second; // receives into a file
    struct weir_operation read_operation, again_operation, file_operation, job, clean;
    struct weir_post post;
    sem_t working, work;
};

static struct broken *broken_of(const struct weir_stream *stream)
{
    return weir_stream_context(stream);
}

// --- What is in flight ---------------------------------------------------------------------------

static void broken_again_done(struct weir_operation *operation, int64_t result)
{
    struct broken *broken = container_of(operation, struct broken, again_operation);
    broken->again++;
    broken->again_result = result;
    assert_false(broken->first_closed);
}

// Whoever reads again finds no engine.
static void broken_read_done(struct weir_operation *operation, int64_t result)
{
    struct broken *broken = container_of(operation, struct broken, read_operation);
    broken->read++;
    broken->read_result = result;
    assert_false(broken->first_closed);
    broken->again_operation.done = broken_again_done;
    broken->again_operation.stream = operation->stream;
    weir_file_read(operation->file, &broken->again_operation, broken->data, 4, 0);
}

static void broken_file_done(struct weir_operation *operation, int64_t result)
{
    struct broken *broken = container_of(operation, struct broken, file_operation);
    broken->received++;
    broken->received_result = result;
}

static int broken_work(struct weir_operation *operation)
{
    struct broken *broken = container_of(operation, struct broken, job);
    sem_post(&broken->working);
    while (sem_wait(&broken->work) && errno == EINTR)
        continue;
    return BROKEN_MARK;
}

static void broken_worked(struct weir_operation *operation, int64_t result)
{
    struct broken *broken = container_of(operation, struct broken, job);
    broken->worked++;
    broken->worked_result = result;
    assert_false(broken->first_closed);
}

static int broken_clean(struct weir_operation *operation)
{
    struct broken *broken = container_of(operation, struct broken, clean);
    broken->cleaned += !pthread_equal(broken->thread, pthread_self());
    return 0;
}

static void broken_cleaned(struct weir_operation *operation, int64_t result)
{
    struct broken *broken = container_of(operation, struct broken, clean);
    broken->cleaned += result == 0;
}

static void broken_posted(struct weir_loop *loop, struct weir_post *post)
{
    (void)loop;
    container_of(post, struct broken, post)->posted++;
}

// --- The streams ---------------------------------------------------------------------------------

static void broken_read_pipe(struct broken *broken, struct weir_stream *stream)
{
    struct weir_file *file;
    assert_int_equal(weir_file_adopt(broken->loop, broken->pipe[0], &file), 0);
    broken->read_operation.done = broken_read_done;
    broken->read_operation.stream = stream;
    weir_file_read(file, &broken->read_operation, broken->data, sizeof broken->data, 0);
    weir_file_release(file);
    broken->job.done = broken_worked;
    broken->job.stream = stream;
    weir_job_start(broken->loop, &broken->job, broken_work);
}

static void broken_receive_file(struct broken *broken, struct weir_stream *stream)
{
    struct weir_file *file;
    assert_int_equal(weir_file_adopt(broken->loop, broken->memory, &file), 0);
    broken->file_operation.done = broken_file_done;
    weir_stream_receive_file(stream, file, 0, &broken->file_operation);
    weir_file_release(file);
    broken->second = stream;
}

static void broken_opened(struct weir_stream *stream)
{
    struct broken *broken = broken_of(stream);
    if (broken->opened++)
        broken_receive_file(broken, stream);
    else
        broken_read_pipe(broken, stream);
}

static void broken_received(struct weir_stream *stream, struct weir_slice slice)
{
    weir_stream_send_slice(stream, slice);
}

// What it starts last still runs: parts of an upload are removed like this.
static void broken_closed(struct weir_stream *stream, int reason)
{
    struct broken *broken = broken_of(stream);
    if (stream == broken->second)
        assert_int_equal(broken->received, 1);
    else
        broken->first_closed = true;
    broken->reason = reason;
    if (broken->closed++)
        return;
    broken->clean.done = broken_cleaned;
    weir_job_start(broken->loop, &broken->clean, broken_clean);
}

static const struct weir_protocol broken_protocol = {
    .name = "broken",
    .opened = broken_opened,
    .received = broken_received,
    .closed = broken_closed,
};

// --- The test ------------------------------------------------------------------------------------

static uint32_t broken_descriptors(void)
{
    uint32_t count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void broken_start(struct broken *broken)
{
    static const struct ring_base ring = { .operations = &broken_operations };
    const struct loop_base base = { .engine = &engine_uring,
                                    .engine_argument = (void *)(uintptr_t)&ring,
                                    .system = &system_kernel };
    struct weir_loop_config config;
    struct weir_address wanted;
    weir_loop_config_init(&config);
    config.streams_max = 16;
    broken_operations = ring_kernel;
    broken_operations.enter = broken_enter;
    broken_now = false;
    assert_int_equal(loop_create_on(&config, &base, &broken->loop), 0);
    assert_int_equal(weir_address_parse("127.0.0.1:0", &wanted), 0);
    assert_int_equal(weir_listener_open(broken->loop, &wanted,
                                        &(struct weir_listener_config){
                                            .protocol = &broken_protocol, .context = broken },
                                        &broken->listener),
                     0);
    weir_listener_address(broken->listener, &broken->address);
}

static void broken_play(struct broken *broken)
{
    assert_int_equal(pipe2(broken->pipe, O_CLOEXEC), 0);
    broken->memory = memfd_create("broken", MFD_CLOEXEC);
    assert_true(broken->memory >= 0);
    for (int i = 0; i < BROKEN_STREAMS; i++) {
        broken->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(broken->clients[i], &broken->address.any, broken->address.size),
                         0);
    }
    for (int turn = 0; broken->opened < BROKEN_STREAMS && turn < BROKEN_TURNS_MAX; turn++)
        assert_true(weir_loop_turn(broken->loop, WEIR_NEVER) >= 0);
    assert_int_equal(broken->opened, BROKEN_STREAMS);
    assert_true(weir_loop_turn(broken->loop, 0) >= 0); // what `opened` began goes down
    while (sem_wait(&broken->working) && errno == EINTR)
        continue;
}

// Each operation is done once with the ring's error and each job with its result, whatever they
// begin then ends as well, and only then the streams close; posts run. The kernel reads nothing
// any more, and no descriptor is left.
static void a_broken_ring_tells_everybody(void **state)
{
    static struct broken broken;
    (void)state;
    uint32_t descriptors = broken_descriptors();
    broken = (struct broken){ .thread = pthread_self(), .post = { .function = broken_posted } };
    sem_init(&broken.working, 0, 0);
    sem_init(&broken.work, 0, 0);
    broken_start(&broken);
    broken_play(&broken);
    broken_now = true;
    int result = 0;
    for (int turn = 0; result >= 0 && turn < BROKEN_TURNS_MAX; turn++)
        result = weir_loop_turn(broken.loop, weir_clock_now() + 1);
    assert_int_equal(result, -EIO);
    assert_int_equal(broken.read + broken.worked + broken.received + broken.closed, 0);
    weir_loop_post(broken.loop, &broken.post);
    sem_post(&broken.work);
    weir_loop_destroy(broken.loop);
    assert_int_equal(broken.read, 1);
    assert_int_equal(broken.read_result, -EIO);
    assert_int_equal(broken.again, 1);
    assert_int_equal(broken.again_result, -EIO);
    assert_int_equal(broken.received, 1);
    assert_int_equal(broken.received_result, -EIO);
    assert_int_equal(broken.worked, 1);
    assert_int_equal(broken.worked_result, BROKEN_MARK);
    assert_int_equal(broken.cleaned, 2);
    assert_int_equal(broken.posted, 1);
    assert_int_equal(broken.closed, BROKEN_STREAMS);
    assert_int_equal(broken.reason, -EIO);
    // The kernel takes nothing from the pipe any more, and closes its end now or soon.
    assert_true(write(broken.pipe[1], "late", 4) == 4 || errno == EPIPE);
    assert_int_equal(poll(&(struct pollfd){ .fd = broken.pipe[1] }, 1, BROKEN_WAIT_MS), 1);
    assert_int_equal(broken.data[0], 0);
    close(broken.pipe[1]);
    for (int i = 0; i < BROKEN_STREAMS; i++)
        close(broken.clients[i]);
    sem_destroy(&broken.working);
    sem_destroy(&broken.work);
    assert_int_equal(broken_descriptors(), descriptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_ring_tells_everybody),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("broken ring", tests, NULL, NULL);
}
