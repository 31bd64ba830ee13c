// See files_listing.h. A job makes up to 64 KiB of the listing, the loop queues it, and when the
// client has room for more the next job starts: neither the loop nor a helper is held up by the
// largest directory, and a client that does not read costs one listing's memory.
#include "files_listing.h"

#include <errno.h>
#include <stdlib.h>

#include "accept.h"
#include "connection.h"
#include "listing.h"

struct files_listing {
    struct weir_operation operation;
    struct http_exchange *exchange;
    struct http_listing *listing;
    bool json;
};

// Before an answer ends: the next request may be served, and have a listing, before that returns.
static void files_listing_let_go(struct files_listing *state)
{
    http_exchange_set_state(state->exchange, NULL);
}

static void files_listing_free(struct files_listing *state)
{
    http_worker_give_listing(state->exchange->worker);
    http_listing_destroy(state->listing);
    free(state);
}

static int files_listing_run(struct weir_operation *operation)
{
    return http_listing_step(((struct files_listing *)operation)->listing);
}

static void files_listing_done(struct weir_operation *operation, int64_t result);

static void files_listing_next(struct files_listing *state)
{
    state->operation =
        (struct weir_operation){ .done = files_listing_done, .stream = state->exchange->stream };
    weir_job_start(state->exchange->worker->loop, &state->operation, files_listing_run);
}

static void files_listing_count_error(struct http_exchange *exchange, int status,
                                      const char *reason)
{
    http_count(exchange->worker, COUNTER_FILE_ERRORS);
    http_worker_log(exchange->worker, exchange->stream, http_status_text(status), reason);
}

// Nothing was told of the directory yet.
static void files_listing_refuse(struct http_exchange *exchange, int error)
{
    bool scarce = error == -EAGAIN || error == -ENOMEM;
    if (!scarce)
        files_listing_count_error(exchange, 500, "the directory cannot be read");
    exchange->final |= !scarce;
    http_answer_status(exchange, scarce ? 503 : 500);
}

enum files_listing_turn { NEXT_STEP, NEXT_WRITABLE, NEXT_GONE, NEXT_NOTHING };

// One that fits into its first text is answered in one send; otherwise the head says nothing of the
// length.
static enum files_listing_turn files_listing_tell(struct files_listing *state)
{
    struct http_exchange *exchange = state->exchange;
    struct http_text text = http_listing_text(state->listing);
    const struct http_answer answer = {
        .status = 200,
        .type = state->json ? "application/json" : "text/html; charset=utf-8",
        .length = HTTP_LENGTH_UNKNOWN,
        .varies_by_accept = true,
    };
    bool ended = http_listing_ended(state->listing), more = true;
    if (ended && !http_listing_complete(state->listing)) // the listing itself tells its client
        files_listing_count_error(exchange, 200, "the rest of the directory cannot be read");
    if (ended && !exchange->begun) {
        files_listing_let_go(state);
        http_answer(exchange, &answer, text.data, text.size);
        return NEXT_NOTHING;
    }
    if (text.size && !exchange->begun)
        http_answer_begin(exchange, &answer);
    if (text.size && exchange->writing)
        more = http_answer_piece(exchange, text.data, text.size);
    if (ended || (text.size && !exchange->writing)) { // HEAD is answered by the head
        files_listing_let_go(state);
        http_answer_end(exchange);
        return NEXT_NOTHING;
    }
    // What is sent to a stream that is gone is dropped at once.
    if (text.size && !weir_stream_queued(exchange->stream))
        return NEXT_GONE;
    return more ? NEXT_STEP : NEXT_WRITABLE;
}

// Nothing can be told any more, or of what was told the rest is missing.
static void files_listing_failed(struct files_listing *state, int error)
{
    struct http_exchange *exchange = state->exchange;
    files_listing_let_go(state);
    if (!exchange->begun) {
        files_listing_refuse(exchange, error);
        return;
    }
    const char *reason = "no job for the listing"; // UNTESTED: needs 1,024 jobs in the queue
    http_worker_log(exchange->worker, exchange->stream, "aborted", reason); // UNTESTED: as above
    exchange->phase = CONNECTION_CLOSING;                                   // UNTESTED: as above
    weir_stream_abort(exchange->stream);                                    // UNTESTED: as above
}

static void files_listing_done(struct weir_operation *operation, int64_t result)
{
    struct files_listing *state = (struct files_listing *)operation;
    enum files_listing_turn next = NEXT_NOTHING;
    // UNTESTED: a client that goes at that moment
    if (state->exchange->phase == CONNECTION_CLOSING)
        return; // `gone` follows
    if (result < 0)
        files_listing_failed(state, (int)result);
    else
        next = files_listing_tell(state);
    if (next == NEXT_STEP)
        files_listing_next(state);
    else if (next == NEXT_NOTHING)
        files_listing_free(state);
}

// NULL when memory is out.
static struct files_listing *files_listing_create(struct http_exchange *exchange,
                                                  struct http_lookup *lookup)
{
    struct files_listing *state = http_exchange_keep(exchange) ? NULL : malloc(sizeof *state);
    if (!state)
        return NULL;
    bool json = http_accept_prefers_json(http_exchange_request(exchange));
    struct http_listing *listing =
        http_listing_create(lookup->root, lookup->fd, lookup->path, json);
    lookup->fd = -1;
    if (!listing) {
        free(state);
        return NULL;
    }
    *state = (struct files_listing){ .exchange = exchange, .listing = listing, .json = json };
    return state;
}

void http_files_list(struct http_exchange *exchange, struct http_lookup *lookup)
{
    struct http_worker *worker = exchange->worker;
    bool taken = http_worker_take_listing(worker);
    struct files_listing *state = taken ? files_listing_create(exchange, lookup) : NULL;
    if (!state) {
        if (taken)
            http_worker_give_listing(worker);
        http_count(worker, COUNTER_LISTINGS_REFUSED);
        http_answer_status(exchange, 503);
        return;
    }
    http_count(worker, COUNTER_JOBS);
    http_exchange_set_state(exchange, state);
    files_listing_next(state);
}

void http_files_writable(struct http_exchange *exchange, void *context)
{
    (void)context;
    files_listing_next(http_exchange_state(exchange));
}

void http_files_gone(struct http_exchange *exchange, void *context)
{
    (void)context;
    files_listing_free(http_exchange_state(exchange));
}
