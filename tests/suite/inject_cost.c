// Preloaded into a server, makes it dearer by a known part: WEIR_COST_PERMILLE=50 adds 5 % of CPU
// time to whatever it does, in any engine. Each 10 ms of CPU time a signal comes and spins.
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

enum { COST_PERIOD_US = 10000 };

static uint64_t cost_spin_ns;

static uint64_t cost_now_ns(void)
{
    struct timespec now;
    // Of this thread: what others take of the CPU meanwhile is no cost of the server's.
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void cost_spin(int number)
{
    (void)number;
    uint64_t end_ns = cost_now_ns() + cost_spin_ns;
    while (cost_now_ns() < end_ns)
        ;
}

__attribute__((constructor)) static void cost_begin(void)
{
    const char *text = getenv("WEIR_COST_PERMILLE");
    uint64_t permille = text ? strtoull(text, NULL, 10) : 0;
    if (!permille)
        return;
    // The period counts the spinning, too: so much of it is such a part of the rest.
    cost_spin_ns = COST_PERIOD_US * UINT64_C(1000) * permille / (1000 + permille);
    struct sigaction action = { .sa_handler = cost_spin, .sa_flags = SA_RESTART };
    struct itimerval timer = { .it_interval.tv_usec = COST_PERIOD_US,
                               .it_value.tv_usec = COST_PERIOD_US };
    sigaction(SIGPROF, &action, NULL);
    setitimer(ITIMER_PROF, &timer, NULL);
}
