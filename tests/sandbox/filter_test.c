// The filters as the kernel reads them: the programs that threads would take, run on every question
// that matters.
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <seccomp.h>

#include "ftp/session.h"
#include "http/site.h"
#include "sandbox_calls.h"

enum { FILTER_MAX = 4096, FILTER_X32_BIT = 0x40000000, FILTER_CALLS_MAX = 1024 };

struct filter_program {
    struct sock_filter lines[FILTER_MAX];
    size_t count;
};

static struct filter_program filter_loaded;

// --- Servers -------------------------------------------------------------------------------------

static const struct sandbox_needs filter_echo = { .abilities = WEIR_ABILITY_ACCEPT };
static struct http_needs filter_http;
static struct ftp_needs filter_ftp;

static const struct sandbox_needs *const filter_servers[] = {
    &filter_echo,
    &filter_http.needs,
    &filter_ftp.needs,
};

enum { FILTER_SERVERS = sizeof filter_servers / sizeof filter_servers[0] };

static int filter_setup(void **state)
{
    static const struct http_settings http_settings = { .root = "/" };
    static const struct ftp_server ftp_server = { .anonymous_write = true,
                                                  .passive_first = 40000,
                                                  .passive_last = 40009 };
    (void)state;
    http_needs_complete(&filter_http, &http_settings, 3);
    ftp_needs_complete(&filter_ftp, &ftp_server);
    return 0;
}

static uint32_t filter_threads(enum sandbox_filter filter, enum weir_engine engine)
{
    static const enum weir_thread kinds[] = {
        [SANDBOX_FILTER_LOOP] = WEIR_THREAD_LOOP,
        [SANDBOX_FILTER_JOB] = WEIR_THREAD_JOB,
    };
    return filter == SANDBOX_FILTER_MAIN ? (uint32_t)SANDBOX_MAIN
                                         : sandbox_threads_of(engine, kinds[filter]);
}

// The filter of a loop, of a helper, or of the main thread.
static void filter_load_for(const struct sandbox_needs *needs, enum sandbox_filter filter,
                            enum sandbox_mode mode, enum weir_engine engine)
{
    struct sandbox sandbox;
    sandbox_init(&sandbox, mode, needs);
    sandbox.engine = engine;
    assert_int_equal(sandbox_filters_build(&sandbox), 0);
    filter_loaded.count = sandbox.filters[filter].len;
    assert_in_range(filter_loaded.count, 1, FILTER_MAX);
    memcpy(filter_loaded.lines, sandbox.filters[filter].filter,
           filter_loaded.count * sizeof filter_loaded.lines[0]);
    for (size_t i = 0; i < SANDBOX_FILTERS; i++)
        free(sandbox.filters[i].filter);
}

static void filter_load(const struct sandbox_needs *needs, enum weir_engine engine,
                        enum sandbox_mode mode)
{
    filter_load_for(needs, SANDBOX_FILTER_LOOP, mode, engine);
}

// --- The kernel's part ---------------------------------------------------------------------------

// What one question comes to.
struct filter_answer {
    uint32_t action;
    bool looked; // at something else than the call's number and its architecture
};

static uint32_t filter_word(const struct seccomp_data *data, uint32_t offset)
{
    uint32_t word;
    assert_true(offset <= sizeof *data - sizeof word);
    memcpy(&word, (const char *)data + offset, sizeof word);
    return word;
}

static bool filter_jumps(const struct sock_filter *line, uint32_t value)
{
    switch (BPF_OP(line->code)) {
    case BPF_JEQ:
        return value == line->k;
    case BPF_JGE:
        return value >= line->k;
    case BPF_JGT:
        return value > line->k;
    case BPF_JSET:
        return value & line->k;
    }
    fail_msg("an unknown jump %#x", line->code);
    return false;
}

// Runs the loaded program. A line that is not among these is the test's to learn.
static struct filter_answer filter_ask(const struct seccomp_data *data)
{
    struct filter_answer answer = { 0 };
    uint32_t value = 0;
    for (size_t at = 0; at < filter_loaded.count; at++) {
        const struct sock_filter *line = &filter_loaded.lines[at];
        if (line->code == (BPF_LD | BPF_W | BPF_ABS)) {
            value = filter_word(data, line->k);
            answer.looked |= line->k != offsetof(struct seccomp_data, nr) &&
                             line->k != offsetof(struct seccomp_data, arch);
        } else if (line->code == (BPF_ALU | BPF_AND | BPF_K)) {
            value &= line->k;
        } else if (line->code == (BPF_RET | BPF_K)) {
            answer.action = line->k;
            return answer;
        } else if (line->code == (BPF_JMP | BPF_JA)) {
            at += line->k;
        } else {
            assert_int_equal(BPF_CLASS(line->code), BPF_JMP);
            at += filter_jumps(line, value) ? line->jt : line->jf;
        }
    }
    fail_msg("the program has no end");
    return answer;
}

// With the same value in each argument.
static struct filter_answer filter_ask_call(const char *name, uint64_t value)
{
    const struct seccomp_data data = {
        .nr = seccomp_syscall_resolve_name(name),
        .arch = seccomp_arch_native(),
        .args = { value, value, value, value, value, value },
    };
    return filter_ask(&data);
}

// --- Tests ---------------------------------------------------------------------------------------

// What a loop calls for every message, turn and connection is allowed by its number alone. Then the
// kernel (since 5.11) keeps the answer in a table of bits and runs no program; a single look at an
// argument would have it run each time. Sends are looked at where sockets are made, in FTP.
static void hot_calls_are_allowed_by_their_number_alone(void **state)
{
    static const struct {
        enum weir_engine engine;
        const char *name;
        bool sends;
    } hot[] = {
        { WEIR_ENGINE_URING, "io_uring_enter", false }, { WEIR_ENGINE_EPOLL, "epoll_wait", false },
        { WEIR_ENGINE_EPOLL, "epoll_pwait2", false },   { WEIR_ENGINE_EPOLL, "epoll_ctl", false },
        { WEIR_ENGINE_EPOLL, "accept4", false },        { WEIR_ENGINE_EPOLL, "recvfrom", false },
        { WEIR_ENGINE_EPOLL, "recvmsg", false },        { WEIR_ENGINE_EPOLL, "sendto", true },
        { WEIR_ENGINE_EPOLL, "sendmsg", true },         { WEIR_ENGINE_EPOLL, "close", false },
        { WEIR_ENGINE_BLOCKING, "recvfrom", false },    { WEIR_ENGINE_BLOCKING, "sendto", true },
        { WEIR_ENGINE_BLOCKING, "ppoll", false },
    };
    (void)state;
    for (size_t i = 0; i < FILTER_SERVERS * sizeof hot / sizeof hot[0]; i++) {
        const struct sandbox_needs *needs = filter_servers[i % FILTER_SERVERS];
        size_t at = i / FILTER_SERVERS;
        bool looks = hot[at].sends && needs->abilities & WEIR_ABILITY_LISTEN;
        for (enum sandbox_mode mode = SANDBOX_ON; mode <= SANDBOX_STRICT; mode++) {
            filter_load(needs, hot[at].engine, mode);
            struct filter_answer answer = filter_ask_call(hot[at].name, 0);
            assert_int_equal(answer.action, SECCOMP_RET_ALLOW);
            assert_int_equal(answer.looked, looks);
        }
    }
}

// Where a call is looked at, the flag that connects is refused and every other passes.
static void sends_that_connect_are_refused(void **state)
{
    (void)state;
    filter_load(&filter_ftp.needs, WEIR_ENGINE_EPOLL, SANDBOX_STRICT);
    for (int bit = 0; bit < 32; bit++) {
        uint64_t flags = UINT64_C(1) << bit;
        bool connects = flags == MSG_FASTOPEN;
        for (size_t i = 0; i < 2; i++) {
            uint32_t action = filter_ask_call(i ? "sendto" : "sendmsg", flags).action;
            assert_int_equal(action == SECCOMP_RET_ALLOW, !connects);
        }
    }
}

// The numbers of another architecture, and those of x32, are answered as any call that is not
// listed: they end no single thread of a server that goes on without it.
static void foreign_numbers_are_refused(void **state)
{
    static const uint32_t refusals[] = {
        [SANDBOX_ON] = SECCOMP_RET_ERRNO | EPERM,
        [SANDBOX_STRICT] = SECCOMP_RET_KILL_PROCESS,
    };
    (void)state;
    for (enum sandbox_mode mode = SANDBOX_ON; mode <= SANDBOX_STRICT; mode++) {
        struct seccomp_data data = {
            .nr = seccomp_syscall_resolve_name("futex"),
            .arch = seccomp_arch_native() ^ 1,
        };
        filter_load(&filter_echo, WEIR_ENGINE_URING, mode);
        assert_int_equal(filter_ask(&data).action, refusals[mode]);
        if (seccomp_arch_native() != SCMP_ARCH_X86_64)
            continue;
        data.arch = seccomp_arch_native();
        data.nr |= FILTER_X32_BIT;
        assert_int_equal(filter_ask(&data).action, refusals[mode]);
    }
}

static int filter_number(const struct sandbox_call *row)
{
    int number = seccomp_syscall_resolve_name(row->name);
    return number < 0 && row->otherwise ? seccomp_syscall_resolve_name(row->otherwise) : number;
}

// The row's call with arguments that its checks ask for, and with none of them.
static void filter_expect_row(const struct sandbox_call *row, bool *ret_listed)
{
    struct seccomp_data data = { .nr = filter_number(row), .arch = seccomp_arch_native() };
    if (data.nr < 0)
        return;
    assert_true(data.nr < FILTER_CALLS_MAX);
    ret_listed[data.nr] = true;
    for (unsigned i = 0; i < row->checks_count; i++) {
        const struct sandbox_check *check = &row->checks[i];
        bool own = check->value == SANDBOX_OWN_PROCESS;
        data.args[check->index] = own ? (unsigned)getpid() : check->value;
    }
    assert_int_equal(filter_ask(&data).action, SECCOMP_RET_ALLOW);
}

// What the filter that is loaded lets pass is what the tables list for its thread, and no other
// number, whatever its arguments.
static void filter_expect(const struct sandbox_needs *needs, uint32_t threads,
                          enum sandbox_mode mode)
{
    bool listed[FILTER_CALLS_MAX] = { false };
    const struct sandbox_call *row;
    for (size_t i = 0; (row = sandbox_call_at(needs, i)); i++) {
        if (sandbox_call_applies(row, threads, needs->abilities) && sandbox_call_is_left(row, mode))
            filter_expect_row(row, listed);
    }
    for (int number = 0; number < FILTER_CALLS_MAX; number++) {
        struct seccomp_data data = { .nr = number, .arch = seccomp_arch_native() };
        if (listed[number])
            continue;
        assert_int_not_equal(filter_ask(&data).action, SECCOMP_RET_ALLOW);
        memset(data.args, 0xff, sizeof data.args);
        assert_int_not_equal(filter_ask(&data).action, SECCOMP_RET_ALLOW);
    }
}

// The filters leave what the tables list, which are those of docs/security.md: for every server,
// engine and mode, on loops, in helpers and on the main thread.
static void filters_leave_what_is_listed(void **state)
{
    (void)state;
    for (int i = 0; i < FILTER_SERVERS * SANDBOX_FILTERS * 3 * 2; i++) {
        const struct sandbox_needs *needs = filter_servers[i % FILTER_SERVERS];
        enum sandbox_filter thread = (enum sandbox_filter)(i / FILTER_SERVERS % SANDBOX_FILTERS);
        enum weir_engine engine =
            (enum weir_engine)(WEIR_ENGINE_URING + i / (FILTER_SERVERS * SANDBOX_FILTERS) % 3);
        enum sandbox_mode mode =
            i / (FILTER_SERVERS * SANDBOX_FILTERS * 3) ? SANDBOX_STRICT : SANDBOX_ON;
        filter_load_for(needs, thread, mode, engine);
        filter_expect(needs, filter_threads(thread, engine), mode);
    }
}

static bool filter_leaves(const struct sandbox_needs *needs, uint32_t threads, const char *name)
{
    const struct sandbox_call *row;
    for (size_t i = 0; (row = sandbox_call_at(needs, i)); i++) {
        if (!strcmp(row->name, name) && sandbox_call_applies(row, threads, needs->abilities) &&
            sandbox_call_is_left(row, SANDBOX_STRICT))
            return true;
    }
    return false;
}

// What strict mode refuses without an end, it answers with an error: with the row's, or EPERM.
static void refusals_of_strict_mode_are_errors(void **state)
{
    (void)state;
    uint32_t refused = 0;
    for (int i = 0; i < FILTER_SERVERS * SANDBOX_FILTERS * 3; i++) {
        const struct sandbox_needs *needs = filter_servers[i % FILTER_SERVERS];
        enum sandbox_filter thread = (enum sandbox_filter)(i / FILTER_SERVERS % SANDBOX_FILTERS);
        enum weir_engine engine =
            (enum weir_engine)(WEIR_ENGINE_URING + i / (FILTER_SERVERS * SANDBOX_FILTERS));
        uint32_t threads = filter_threads(thread, engine);
        filter_load_for(needs, thread, SANDBOX_STRICT, engine);
        const struct sandbox_call *row;
        for (size_t at = 0; (row = sandbox_call_at(needs, at)); at++) {
            if ((row->level != SANDBOX_QUIET && row->level != SANDBOX_REFUSED) ||
                !sandbox_call_applies(row, threads, needs->abilities) ||
                filter_leaves(needs, threads, row->name) || filter_number(row) < 0)
                continue;
            uint32_t error = (uint32_t)(row->refusal ? row->refusal : EPERM);
            struct seccomp_data data = { .nr = filter_number(row), .arch = seccomp_arch_native() };
            assert_int_equal(filter_ask(&data).action, SECCOMP_RET_ERRNO | error);
            refused++;
        }
    }
    assert_true(refused > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters_leave_what_is_listed),
        cmocka_unit_test(refusals_of_strict_mode_are_errors),
        cmocka_unit_test(hot_calls_are_allowed_by_their_number_alone),
        cmocka_unit_test(sends_that_connect_are_refused),
        cmocka_unit_test(foreign_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, filter_setup, NULL);
}
