// What the tests of streams share: a loop with its protocols, the peers' sockets, and the run of
// each test with every engine.
#ifndef STREAM_FIXTURE_H
#define STREAM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include "loop.h"

#include <cmocka.h>

#define MILLISECOND 1000000ULL
#define PATIENCE (20000 * MILLISECOND)

enum { STREAMS_MAX = 2200 };

// What a loop's streams were told, and what they do in their callbacks.
struct fixture {
    struct weir_loop_config config;
    struct weir_loop *loop;
    struct weir_address address;
    struct weir_stream *streams[STREAMS_MAX];
    uint32_t opened, closed, ended, done;
    uint64_t received;
    int reason;
    int64_t result;
    struct weir_operation operation;
    struct weir_file *file;
    atomic_bool gate; // a job waits for it
};

struct variant {
    const char *name;
    enum weir_engine engine;
    const char *features;
};

// Callbacks that note what a stream was told in its fixture, which is the stream's context.
struct fixture *stream_fixture(struct weir_stream *stream);
void stream_note_opened(struct weir_stream *stream);
void stream_note_received(struct weir_stream *stream, struct weir_slice slice);
void stream_note_ended(struct weir_stream *stream);
void stream_note_closed(struct weir_stream *stream, int reason);

// Notes everything, and stays open after the peer's end.
extern const struct weir_protocol stream_quiet;
// Answers its first bytes with 64 MiB.
extern const struct weir_protocol stream_flooding;

// Fills in the defaults for the engine; the test may change fixture->config before stream_start().
void stream_init(struct fixture *fixture, const struct variant *variant);
void stream_start(struct fixture *fixture);
void stream_fini(struct fixture *fixture);
// Listens on a free port; fixture->address is where.
void stream_listen(struct fixture *fixture, const struct weir_protocol *protocol);

// Turns until the counter reaches `least`; fails when that takes too long.
void stream_reaches(struct fixture *fixture, const uint32_t *counter, uint32_t least);
// Turns for that long, and until a turn brings nothing.
void stream_turns(struct fixture *fixture, uint64_t duration_ns);

// A peer's socket that connected to the address; and the same to the fixture's own listener, after
// its stream has opened.
int stream_peer(const struct weir_address *address);
int stream_pair(struct fixture *fixture);
// Receives what is there, once there is something.
ssize_t stream_peer_receive(int fd, void *ret_data, size_t size);
// A listening socket that is not the loop's.
int stream_peer_listen(struct weir_address *ret_address);

// An unnamed file as fixture->file.
void stream_open_temporary(struct fixture *fixture);
// As many descriptors as this process may have.
void stream_raise_file_limit(void);

// Runs each test once per engine; `filter` is a pattern of names, or NULL for all. The exit status.
int stream_run_all(const char *name, const struct CMUnitTest *tests, size_t count,
                   const char *filter);

#endif
