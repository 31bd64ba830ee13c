// A worker: one thread with one loop and its share of the connections.
//
// worker.c owns time: the thread, its turns, phases and results. client.c owns the connections: it
// opens them, starts requests on them and checks replies. crew.c, on the main thread, makes the
// workers start and stop together and adds up what they found.
//
// The three times of a request:
//   intended: from the schedule. A closed loop has none; there it is the time of sending.
//   sent:     the clock, read once after the callbacks of a turn; the requests that start then are
//             queued and submitted as one batch by the next turn, within nanoseconds to a few
//             microseconds. The kernel's work on earlier sends of the batch counts as service.
//   done:     the clock, read when a turn starts its callbacks, so it is late by the time the rest
//             of the batch took to be submitted, and never early.
#ifndef LOAD_WORKER_H
#define LOAD_WORKER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir.h>

#include "ftp.h"
#include "histogram.h"
#include "http_reply.h"
#include "options.h"
#include "payload.h"
#include "schedule.h"

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#define WORKER_DRAIN_NS UINT64_C(5000000000)

// Why a connection failed. worker_failure_name() has the words.
enum failure {
    FAILURE_REFUSED,         // nobody listens
    FAILURE_CONNECT_TIMEOUT, // no answer to connect
    FAILURE_UNREACHABLE,
    FAILURE_NO_PORT,      // this machine has no free port towards the address
    FAILURE_LIMIT,        // descriptors or memory of this machine are out
    FAILURE_RESET,        // the peer reset it
    FAILURE_CLOSED_EARLY, // the peer closed it while replies were due
    FAILURE_CLOSED_QUIET, // the peer closed it while none was
    FAILURE_TIMEOUT,      // a request took longer than --timeout
    FAILURE_CORRUPT,      // a reply differed from what was sent
    FAILURE_STATUS,       // http, ftp: a status of 400 or above
    FAILURE_MALFORMED,    // http, ftp: a reply that is none
    FAILURE_EXCESS,       // bytes came that nothing asked for
    FAILURE_OTHER,
    FAILURE_COUNT,
};

struct request {
    uint64_t intended_ns;
    uint64_t sent_ns;
};

struct connection {
    struct worker *worker;
    struct weir_stream *stream;       // NULL: neither open nor connecting
    struct connection *next;          // in worker->waiting or worker->failed
    struct connection *next_free;     // in worker->free
    struct connection *next_starting; // in worker->starting
    struct request *requests;         // a ring of `depth`; churn uses the first for the operation
    uint32_t head;                    // the oldest request's index
    uint32_t outstanding;             // echoes that were started and not answered
    uint32_t starting;                // of these, not yet queued on the stream
    uint32_t unstarted;               // churn: echoes of this connection still to start
    uint32_t send_offset, receive_offset; // in the payload's pattern
    uint64_t received;                    // bytes of the reply that is coming
    struct http_reply *http;              // and what is known of it; NULL: another protocol
    struct ftp_session *ftp;              // NULL: another protocol
    uint64_t replies;                     // complete ones on this connection
    bool open : 1;
    bool connecting : 1;
    bool idle : 1;    // stays silent
    bool running : 1; // churn: an operation is under way
    bool free_listed : 1;
    bool starting_listed : 1;
};

struct connection_list {
    struct connection *first;
    struct connection **last;
};

enum worker_phase {
    PHASE_CONNECT, // opens connections and waits for the start
    PHASE_RUN,     // warm-up and measurement
    PHASE_DRAIN,   // starts nothing that is not overdue, waits for what is outstanding
    PHASE_REST,    // between two turns
    PHASE_DONE,
};

// What other threads see of a worker.
enum worker_state { WORKER_STARTING, WORKER_READY, WORKER_DONE, WORKER_FAILED };

// Orders from the main thread; they arrive by weir_loop_post.
struct worker_order {
    struct weir_post post;
    struct worker *worker;
    uint64_t start_ns; // the warm-up begins
    uint64_t from_ns;  // the measured window: from_ns <= t < to_ns
    uint64_t to_ns;
    uint64_t give_up_ns; // the drain ends
    uint32_t turn;       // with --turns: from 1; 0: there are no more
};

// What a worker did in all of its turns until now; other threads may read it while it rests.
struct worker_turn {
    uint64_t ended_ns; // the last one was over
    uint64_t ops, echoes, verified, failures, unended;
};

// A copy of the counters for the live line.
struct worker_snapshot {
    struct weir_post post;
    struct worker *worker;
    struct histogram *latency;
    uint64_t failures;
    atomic_bool taken; // written last
};

struct worker_usage {
    uint64_t at_ns;
    double user_s;
    double system_s;
    uint64_t spin_ns, stolen_ns;
    struct weir_stats stats;
};

// Histograms and the counters hold what started inside the window (response and lag: what was
// intended there); `ops`, `echoes` and `verified` what was done inside it.
struct worker_result {
    struct histogram *response; // NULL in a closed loop
    struct histogram *service;
    struct histogram *lag;              // NULL in a closed loop
    struct histogram *steps[FTP_STEPS]; // ftp: of each command; otherwise NULL
    uint64_t beside_bytes;              // ftp: of --beside
    uint64_t ops;
    uint64_t echoes;
    uint64_t bytes; // of these replies
    uint64_t verified;
    uint64_t censored; // counted as at least as late as they were when given up
    uint64_t unsent;   // of these, never sent
    uint64_t lost;     // their connection failed
    // What sets the sum of the latencies apart from the time in flight inside the window: the time
    // inside of requests that began before it, and the time after it of those that began inside.
    uint64_t carried_in_ns, carried_out_ns;
    uint64_t opened;                  // connections, over the whole run
    uint64_t failures[FAILURE_COUNT]; // over the whole run
    struct worker_usage begin, end;
};

struct worker {
    const struct options *options;
    const struct payload *payload;
    uint32_t index;
    uint32_t connections_count, idle_count;
    uint32_t connecting_max;
    pthread_t thread;
    bool started_thread;
    sem_t *release; // posted when nobody will use the loop any more
    int notice;     // an eventfd: something changed that the main thread waits for

    struct weir_loop *loop;
    struct connection *connections; // the idle ones are last
    struct request *requests;
    struct http_reply *http_replies; // http: one per connection
    struct http_reply_model http_model;
    struct ftp_session *ftp_sessions; // ftp: one per connection
    struct ftp_file *ftp_files;       // ftp: one per file
    struct connection_list waiting;   // to be connected
    struct connection_list failed;    // to be connected after the back-off
    struct connection_list free;      // may start a request; stale entries are skipped
    struct connection_list starting;  // queue their requests at the end of the turn
    uint32_t connecting;
    uint32_t address_next;
    uint64_t generation; // of connections, for the payload's start
    uint64_t backoff_ns;
    struct weir_timer retry_timer, timeout_timer;
    bool retry_running;

    enum worker_phase phase;
    struct worker_order order;   // as received
    struct worker_order pending; // written by the main thread before it posts
    atomic_bool pending_posted;  // and has not arrived
    struct schedule schedule;
    bool measuring;
    uint64_t running;   // requests (churn: operations) that were started and have not ended
    uint64_t started;   // ever
    uint64_t spin_ns;   // time in turns that found nothing to do and did not sleep
    uint64_t stolen_ns; // of it, what turns took that were too long for that: see WORKER_STOLEN_NS
    bool live;
    struct worker_snapshot snapshot;
    struct worker_result result;
    struct worker_turn turn;

    _Atomic uint32_t turns;   // that are over
    _Atomic uint32_t state;   // enum worker_state
    _Atomic uint32_t open;    // connections open now
    _Atomic uint64_t opened;  // ever
    _Atomic uint64_t refused; // attempts to connect that failed
    _Atomic int last_error;   // of these
    char error[256];          // when the state is WORKER_FAILED
    char engine[16], plan[256];
};

// worker.c

// Makes the loop of a worker whose members up to `notice` are set; on the main thread, for all
// workers before the first one starts. Threads that probe and map rings beside each other gain
// nothing, and ThreadSanitizer takes what the kernel hands from one to the next for a race. -errno,
// and the reason in worker->error.
int worker_create_loop(struct worker *worker);
// Starts the thread. -errno, and the reason in worker->error.
int worker_start(struct worker *worker);
// After the state is READY and before `release` is posted; any thread.
void worker_order(struct worker *worker, const struct worker_order *order);
void worker_snapshot(struct worker *worker);
// Waits for the thread, whose `release` was posted, and frees.
void worker_fini(struct worker *worker);
const char *worker_failure_name(enum failure failure);
void worker_notify(const struct worker *worker);

static inline bool worker_in_window(const struct worker *worker, uint64_t time_ns)
{
    return time_ns >= worker->order.from_ns && time_ns < worker->order.to_ns;
}

// Whether what ended then counts. What a turn began, it waits for, so all of that is the turn's.
static inline bool worker_ended_in_window(const struct worker *worker, uint64_t time_ns)
{
    return time_ns >= worker->order.from_ns &&
           (time_ns < worker->order.to_ns || worker->options->turns);
}

// Whether the request belongs to the histograms: by its intended time in an open loop, otherwise by
// the time of sending, which is then the same.
static inline bool worker_counts(const struct worker *worker, const struct request *request)
{
    return worker_in_window(worker, request->intended_ns);
}

// A request is overdue or due now, and the window is not over.
static inline bool worker_due(const struct worker *worker, uint64_t now_ns)
{
    return worker->schedule.next_ns <= now_ns && worker->schedule.next_ns < worker->order.to_ns;
}

// reply.c

// What the bytes at the head of a slice mean to the reply that is coming.
struct reply_piece {
    size_t used;
    bool whole;           // the reply ends with them
    enum failure failure; // FAILURE_COUNT: none
};
struct reply_piece reply_take(const struct connection *connection, bool compares,
                              const struct weir_slice *slice);

// lists.c

void lists_init(struct connection_list *list);
void lists_add(struct connection_list *list, struct connection *connection);
// The first connection, or NULL.
struct connection *lists_take(struct connection_list *list);
// Puts it among those that may start a request, or that queue one at the end of the turn; once.
void lists_free_add(struct connection *connection);
void lists_starting_add(struct connection *connection);
// One that may start a request, or NULL.
struct connection *lists_free_take(struct worker *worker);
// A connection without room for a request, or that failed since it was listed.
bool lists_busy(const struct connection *connection);

// client.c

// Prepares the connections and begins to open them. -ENOMEM.
int client_init(struct worker *worker);
// Starts the requests that may start now, and queues them on their streams.
void client_start(struct worker *worker, uint64_t now_ns);
// ftp: the session is logged in; it is refused before or later; an operation ended; the session
// did, in order. client_refused() and client_abort() reset the connection.
void client_ready(struct connection *connection);
void client_refused(struct connection *connection, enum failure failure);
void client_completed(struct connection *connection, uint64_t now_ns, bool compared);
void client_operation_done(struct connection *connection, uint64_t now_ns);
void client_abort(struct connection *connection, enum failure failure);
// The kind of failure for the reason that a stream closed with.
enum failure client_failure(const struct connection *connection, int reason);
// Whether the reply that comes next is compared.
bool client_compares(const struct connection *connection);
// Counts what is still outstanding as at least this late.
void client_censor(struct worker *worker, uint64_t now_ns);
// After the loop was destroyed.
void client_fini(struct worker *worker);

#endif
