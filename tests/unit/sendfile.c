// The core's sendfile(2), where SIGPIPE would end the program: it raises none.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "system.h"

// A range of as many bytes as a turn sends, which touches one page more than a pipe has room for:
// the kernel sends it in two steps.
enum { SENDFILE_OFFSET = 1000, SENDFILE_SIZE = 45 * 1448, SENDFILE_TRIES = 100 };

// What is left of a connection whose peer has closed its end: the first bytes are still taken, and
// answered with a reset.
static int sendfile_half_open(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &size) ||
        connect(fd, (struct sockaddr *)&address, size))
        return -1;
    close(accept(listener, NULL, NULL));
    close(listener);
    return fd;
}

// Sends until the connection is lost. The first result, and in *ret_last that of the end.
static int64_t sendfile_until_lost(int fd, enum system_signal signal, int64_t *ret_last)
{
    int file = memfd_create("sendfile", MFD_CLOEXEC);
    int64_t first, sent = 1;
    if (ftruncate(file, SENDFILE_OFFSET + SENDFILE_SIZE))
        return -errno;
    first = sent = system_kernel.sendfile(NULL, &signal, fd, file, SENDFILE_OFFSET, SENDFILE_SIZE);
    for (int tries = 0; sent > 0 && tries < SENDFILE_TRIES; tries++)
        sent = system_kernel.sendfile(NULL, &signal, fd, file, SENDFILE_OFFSET, SENDFILE_SIZE);
    *ret_last = sent;
    return first;
}

// In a child: a signal that is raised ends it.
static void sendfile_child(void (*play)(void))
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sigset_t none;
        signal(SIGPIPE, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        play();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        fail_msg("signal %d ended the program", WTERMSIG(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void sendfile_play_lost(void)
{
    int64_t last, first = SENDFILE_SIZE;
    // A kernel that has much to do may deliver the reset later than between two steps.
    for (int tries = 0; first == SENDFILE_SIZE && tries < SENDFILE_TRIES; tries++) {
        first = sendfile_until_lost(sendfile_half_open(), SYSTEM_SIGNAL_UNKNOWN, &last);
        if (last != -EPIPE && last != -ECONNRESET)
            _exit(1);
    }
    if (first <= 0 || first >= SENDFILE_SIZE)
        _exit(1);
}

// A connection that is lost in the middle of a call, behind bytes that were sent, ends no program.
static void a_connection_lost_in_a_call_raises_no_signal(void **state)
{
    (void)state;
    sendfile_child(sendfile_play_lost);
}

static void sendfile_play_blocked(void)
{
    sigset_t pipe, pending;
    int64_t last;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe, NULL);
    raise(SIGPIPE);
    (void)sendfile_until_lost(sendfile_half_open(), SYSTEM_SIGNAL_KILLS, &last);
    sigpending(&pending);
    if ((last != -EPIPE && last != -ECONNRESET) || !sigismember(&pending, SIGPIPE))
        _exit(1);
}

// A SIGPIPE that was there before, in a thread that has blocked it since the loop asked, stays.
static void a_pending_signal_is_not_taken_away(void **state)
{
    (void)state;
    sendfile_child(sendfile_play_blocked);
}

// A program that SIGPIPE would end lives on when it sends a file to a peer that is gone: the signal
// is neither raised nor left behind, and what the thread blocked is as before.
static void a_peer_that_is_gone_raises_no_signal(void **state)
{
    enum system_signal known = SYSTEM_SIGNAL_UNKNOWN;
    sigset_t before, after, pending;
    int pair[2], file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    (void)state;
    assert_true(file >= 0);
    assert_true(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(sigismember(&before, SIGPIPE), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(system_kernel.sendfile(NULL, &known, pair[0], file, 0, 100), 100);
    close(pair[1]);
    assert_int_equal(system_kernel.sendfile(NULL, &known, pair[0], file, 0, 100), -EPIPE);
    assert_int_equal(known, SYSTEM_SIGNAL_KILLS);
    sigpending(&pending);
    assert_int_equal(sigismember(&pending, SIGPIPE), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGPIPE), 0);
    close(pair[0]);
    close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connection_lost_in_a_call_raises_no_signal),
        cmocka_unit_test(a_pending_signal_is_not_taken_away),
        cmocka_unit_test(a_peer_that_is_gone_raises_no_signal),
    };
    return cmocka_run_group_tests_name("sendfile", tests, NULL, NULL);
}
