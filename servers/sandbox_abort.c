// abort(3) in strict mode. It asks for the numbers of its process and thread before it raises
// SIGABRT, and nothing else does. So these two calls, instead of being left, are trapped: the
// kernel sends SIGSYS, and its handler raises SIGABRT with the numbers that were noted while it was
// allowed to ask. One call is left for it, tgkill(2), with this process and this signal alone.
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"

// State outside of any object: a signal's handler has no other. Each thread knows itself.
static _Thread_local struct {
    pid_t process, thread;
} sandbox_abort_self;

static void sandbox_abort_trapped(int signal)
{
    (void)signal;
    syscall(SYS_tgkill, sandbox_abort_self.process, sandbox_abort_self.thread, SIGABRT);
    __builtin_trap(); // UNTESTED: only if SIGABRT was caught or ignored
}

void sandbox_abort_init(void)
{
    const struct sigaction action = { .sa_handler = sandbox_abort_trapped };
    sigaction(SIGSYS, &action, NULL);
}

// Helpers block all signals, and the filter keeps abort(3) from changing that.
void sandbox_abort_prepare_thread(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGABRT);
    sigaddset(&signals, SIGSYS);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    sandbox_abort_self.process = getpid();
    sandbox_abort_self.thread = gettid();
}
