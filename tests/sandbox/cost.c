// What the sandbox adds to a system call, in nanoseconds: bare calls that do next to nothing, by
// processes that differ in nothing but their sandbox. They take turns on one CPU, many times, so
// that all of them see the same machine.
//
//   sandbox-cost [ROUNDS]
//
// "allow" is the shortest filter that there is: what any filter costs.
#include <errno.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sandbox.h"

enum { COST_ROUNDS = 60, COST_ROUNDS_MAX = 1000, COST_CALLS = 20000 };

// --- Calls ---------------------------------------------------------------------------------------

// The descriptors that the calls are made on: nothing ever comes out of them.
struct cost_world {
    int socket, epoll, ring;
};

static void cost_recv(const struct cost_world *world)
{
    char byte;
    recv(world->socket, &byte, 1, MSG_DONTWAIT);
}

static void cost_epoll(const struct cost_world *world)
{
    struct epoll_event event;
    epoll_wait(world->epoll, &event, 1, 0);
}

static void cost_enter(const struct cost_world *world)
{
    syscall(SYS_io_uring_enter, world->ring, 0, 0, 0, NULL, 0);
}

static const struct cost_call {
    const char *name;
    enum weir_engine engine;
    void (*call)(const struct cost_world *world);
} cost_calls[] = {
    { "recv", WEIR_ENGINE_EPOLL, cost_recv },
    { "epoll_wait", WEIR_ENGINE_EPOLL, cost_epoll },
    { "io_uring_enter", WEIR_ENGINE_URING, cost_enter },
};

static int cost_open(struct cost_world *ret_world)
{
    struct io_uring_params params = { 0 };
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    ret_world->socket = pair[0];
    ret_world->epoll = epoll_create1(EPOLL_CLOEXEC);
    ret_world->ring = (int)syscall(SYS_io_uring_setup, 8, &params);
    return ret_world->epoll < 0 || ret_world->ring < 0 ? -errno : 0;
}

// --- Sandboxes -----------------------------------------------------------------------------------

static const struct sandbox_needs cost_needs = { .abilities = WEIR_ABILITY_ACCEPT };

static int cost_no_sandbox(enum weir_engine engine)
{
    (void)engine;
    return 0;
}

static int cost_landlock(enum weir_engine engine)
{
    struct sandbox sandbox;
    sandbox_init(&sandbox, SANDBOX_ON, &cost_needs);
    sandbox.engine = engine;
    return sandbox_enter(&sandbox);
}

static int cost_allow(enum weir_engine engine)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = { .len = 1, .filter = &allow };
    (void)engine;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

static int cost_sandbox(enum weir_engine engine, enum sandbox_mode mode)
{
    struct sandbox sandbox;
    sandbox_init(&sandbox, mode, &cost_needs);
    sandbox.engine = engine;
    int error = sandbox_enter(&sandbox);
    return error ? error : sandbox_confine(&sandbox, WEIR_THREAD_LOOP);
}

static int cost_on(enum weir_engine engine)
{
    return cost_sandbox(engine, SANDBOX_ON);
}

static int cost_strict(enum weir_engine engine)
{
    return cost_sandbox(engine, SANDBOX_STRICT);
}

static const struct cost_kind {
    const char *name;
    int (*enter)(enum weir_engine engine);
} cost_kinds[] = {
    { "none", cost_no_sandbox }, { "landlock", cost_landlock }, { "allow", cost_allow },
    { "on", cost_on },           { "strict", cost_strict },
};

enum { COST_KINDS = sizeof cost_kinds / sizeof cost_kinds[0] };

// --- Processes -----------------------------------------------------------------------------------

// Shared with one of them: futex(2) is left to every sandbox, so semaphores are.
struct cost_turn {
    sem_t begin, done;
    int error;
    double call_ns;
};

static double cost_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// Never returns: who made it ends it, since not every sandbox leaves exit_group(2).
static void cost_run(const struct cost_world *world, const struct cost_call *call,
                     const struct cost_kind *kind, struct cost_turn *turn)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    turn->error = kind->enter(call->engine);
    for (;;) {
        sem_post(&turn->done);
        while (sem_wait(&turn->begin) < 0)
            ;
        double start_ns = cost_now_ns();
        for (int i = 0; i < COST_CALLS; i++)
            call->call(world);
        turn->call_ns = (cost_now_ns() - start_ns) / COST_CALLS;
    }
}

static int cost_compare(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static void cost_print(const struct cost_call *call, double (*costs)[COST_ROUNDS_MAX], int rounds)
{
    double medians[COST_KINDS];
    for (int kind = 0; kind < COST_KINDS; kind++) {
        qsort(costs[kind], (size_t)rounds, sizeof costs[kind][0], cost_compare);
        medians[kind] = costs[kind][rounds / 2];
        printf("%-15s %-9s %6.1f ns  least %6.1f  most %6.1f  median beside none %+6.1f\n",
               call->name, cost_kinds[kind].name, medians[kind], costs[kind][0],
               costs[kind][rounds - 1], medians[kind] - medians[0]);
    }
}

// One process for each kind of sandbox. Returns -errno if one of them could not be entered.
static int cost_measure(const struct cost_world *world, const struct cost_call *call,
                        struct cost_turn *turns, int rounds)
{
    static double costs[COST_KINDS][COST_ROUNDS_MAX];
    pid_t processes[COST_KINDS];
    int error = 0;
    for (int kind = 0; kind < COST_KINDS; kind++) {
        sem_init(&turns[kind].begin, 1, 0);
        sem_init(&turns[kind].done, 1, 0);
        processes[kind] = fork();
        if (processes[kind] == 0)
            cost_run(world, call, &cost_kinds[kind], &turns[kind]);
        sem_wait(&turns[kind].done);
        error = turns[kind].error ? turns[kind].error : error;
    }
    for (int round = 0; !error && round < rounds; round++) {
        for (int kind = 0; kind < COST_KINDS; kind++) {
            sem_post(&turns[kind].begin);
            sem_wait(&turns[kind].done);
            costs[kind][round] = turns[kind].call_ns;
        }
    }
    for (int kind = 0; kind < COST_KINDS; kind++) {
        kill(processes[kind], SIGKILL);
        waitpid(processes[kind], NULL, 0);
    }
    if (!error)
        cost_print(call, costs, rounds);
    return error;
}

int main(int argc, char **argv)
{
    struct cost_world world;
    cpu_set_t one;
    int rounds = argc > 1 ? atoi(argv[1]) : COST_ROUNDS;
    struct cost_turn *turns = mmap(NULL, COST_KINDS * sizeof *turns, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int error = turns == MAP_FAILED ? -errno : cost_open(&world);
    if (rounds < 1 || rounds > COST_ROUNDS_MAX)
        error = -EINVAL;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    for (size_t i = 0; !error && i < sizeof cost_calls / sizeof cost_calls[0]; i++)
        error = cost_measure(&world, &cost_calls[i], turns, rounds);
    if (error)
        fprintf(stderr, "sandbox-cost: %s\n", strerror(-error));
    return error ? 1 : 0;
}
